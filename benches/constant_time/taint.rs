//! Secrets that valgrind's memcheck takes for undefined: whatever branches or addresses memory by them is an error.

#![expect(unsafe_code, reason = "valgrind is spoken to by an instruction sequence that does nothing elsewhere")]

use std::hint::black_box;

use claviger_bulk_mac::{BulkMac, Platform};

use super::work::{Numbers, Records, SIZES, Work};

const RUNNING_ON_VALGRIND: u64 = 0x1001;
const MAKE_MEM_UNDEFINED: u64 = 0x4D43_0001;
const MAKE_MEM_DEFINED: u64 = 0x4D43_0002;

/// A client request (valgrind.h, amd64). Its answer outside valgrind is 0.
#[cfg(target_arch = "x86_64")]
fn request(kind: u64, bytes: &[u8]) -> u64 {
    let arguments: [u64; 6] = [kind, bytes.as_ptr() as u64, bytes.len() as u64, 0, 0, 0];
    let answer: u64;
    // SAFETY: the rotations add up to nothing, and the exchange of a register with itself does nothing; valgrind reads
    // the arguments, which live on.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") arguments.as_ptr(), inout("rdx") 0u64 => answer, options(nostack),
        );
    }
    answer
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_: u64, _: &[u8]) -> u64 {
    0
}

/// Verifies under every platform that valgrind knows, with all that is secret undefined.
pub(crate) fn run() {
    assert!(request(RUNNING_ON_VALGRIND, &[]) > 0, "this is for valgrind");
    let mut random = Numbers::new(1);
    for platform in Platform::available() {
        for (work, rows) in Work::ALL.into_iter().flat_map(|work| SIZES.map(|rows| (work, rows))) {
            let records = Records::random(work, rows, &mut random);
            let secrets = [
                records.masters.as_flattened(),
                records.factors.as_flattened(),
                &records.texts[0],
                &records.texts[1],
                &records.macs,
            ];
            for secret in secrets {
                request(MAKE_MEM_UNDEFINED, secret);
            }
            let verdicts = records.verify(BulkMac::on(platform).expect("it is available"), work);
            // Verdicts are told to everybody.
            let told: Vec<u8> = verdicts.iter().map(|verdict| u8::from(*verdict)).collect();
            request(MAKE_MEM_DEFINED, &told);
            for secret in secrets {
                request(MAKE_MEM_DEFINED, secret);
            }
            assert!(told.iter().all(|verdict| *verdict == 1), "the MACs are right");
            println!("{:<10} {:<16} nothing depends on a secret", platform.name(), work.name());
        }
    }
    // A leak, to be found.
    let records = Records::random(Work::DesTac, SIZES[0], &mut random);
    let right = records.macs.clone();
    if std::env::args().any(|argument| argument == "--leak") {
        request(MAKE_MEM_UNDEFINED, &records.macs);
        black_box(records.leaky(&right));
    }
}
