//! What the processor can do at most.

#![expect(unsafe_code, reason = "instructions to count")]

use claviger_bulk_mac::Platform;

use crate::clock::thread_time;

/// Logic operations of the platform's width that this core does in a nanosecond, by independent chains.
#[cfg(target_arch = "x86_64")]
pub(crate) fn operations_per_ns(platform: Platform) -> Option<f64> {
    use std::arch::asm;
    const TURNS: u64 = 100_000;
    const CHAINS: f64 = 16.0;
    let started = thread_time();
    let operations = match platform {
        Platform::Avx512 => {
            // SAFETY: the caller asks for available platforms only; the registers named are given up.
            unsafe {
                asm!("2:",
                    "vpternlogd zmm0, zmm0, zmm0, 150", "vpternlogd zmm1, zmm1, zmm1, 150",
                    "vpternlogd zmm2, zmm2, zmm2, 150", "vpternlogd zmm3, zmm3, zmm3, 150",
                    "vpternlogd zmm4, zmm4, zmm4, 150", "vpternlogd zmm5, zmm5, zmm5, 150",
                    "vpternlogd zmm6, zmm6, zmm6, 150", "vpternlogd zmm7, zmm7, zmm7, 150",
                    "vpternlogd zmm8, zmm8, zmm8, 150", "vpternlogd zmm9, zmm9, zmm9, 150",
                    "vpternlogd zmm10, zmm10, zmm10, 150", "vpternlogd zmm11, zmm11, zmm11, 150",
                    "vpternlogd zmm12, zmm12, zmm12, 150", "vpternlogd zmm13, zmm13, zmm13, 150",
                    "vpternlogd zmm14, zmm14, zmm14, 150", "vpternlogd zmm15, zmm15, zmm15, 150",
                    "dec {n}", "jnz 2b", n = inout(reg) TURNS => _,
                    out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _, out("zmm4") _, out("zmm5") _,
                    out("zmm6") _, out("zmm7") _, out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                    out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _, options(nomem, nostack));
            }
            CHAINS
        }
        Platform::Avx2 => {
            // SAFETY: the caller asks for available platforms only; the registers named are given up.
            unsafe {
                asm!("2:",
                    "vpand ymm0, ymm0, ymm15", "vpand ymm1, ymm1, ymm15", "vpand ymm2, ymm2, ymm15",
                    "vpand ymm3, ymm3, ymm15", "vpand ymm4, ymm4, ymm15", "vpand ymm5, ymm5, ymm15",
                    "vpand ymm6, ymm6, ymm15", "vpand ymm7, ymm7, ymm15", "vpand ymm8, ymm8, ymm15",
                    "vpand ymm9, ymm9, ymm15", "vpand ymm10, ymm10, ymm15", "vpand ymm11, ymm11, ymm15",
                    "dec {n}", "jnz 2b", n = inout(reg) TURNS => _,
                    out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _, out("ymm4") _, out("ymm5") _,
                    out("ymm6") _, out("ymm7") _, out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                    out("ymm15") _, options(nomem, nostack));
            }
            12.0
        }
        Platform::Portable => {
            // What the compiler makes of two words: vectors of SSE2.
            // SAFETY: the registers named are given up.
            unsafe {
                asm!("2:",
                    "pand xmm0, xmm15", "pand xmm1, xmm15", "pand xmm2, xmm15", "pand xmm3, xmm15",
                    "pand xmm4, xmm15", "pand xmm5, xmm15", "pand xmm6, xmm15", "pand xmm7, xmm15",
                    "pand xmm8, xmm15", "pand xmm9, xmm15", "pand xmm10, xmm15", "pand xmm11, xmm15",
                    "dec {n}", "jnz 2b", n = inout(reg) TURNS => _,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                    out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm15") _, options(nomem, nostack));
            }
            12.0
        }
    };
    Some(operations * TURNS as f64 / (thread_time() - started))
}

/// Not counted elsewhere.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn operations_per_ns(_: Platform) -> Option<f64> {
    None
}

/// Cycles of this core in a nanosecond, by a chain of additions of which each waits for the one before it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn cycles_per_ns() -> Option<f64> {
    const TURNS: u64 = 1_000_000;
    let started = thread_time();
    // SAFETY: the registers named are given up.
    unsafe {
        std::arch::asm!("2:", "add rax, r8", "add rax, r8", "add rax, r8", "add rax, r8", "add rax, r8", "add rax, r8",
            "add rax, r8", "add rax, r8", "dec {n}", "jnz 2b", n = inout(reg) TURNS => _, out("rax") _, out("r8") _,
            options(nomem, nostack));
    }
    Some(8.0 * TURNS as f64 / (thread_time() - started))
}

/// Not counted elsewhere.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn cycles_per_ns() -> Option<f64> {
    None
}
