//! OpenSSL by its fastest interfaces: `DES_*`, EVP for SM4 and AES, `CMAC_*`.

#![expect(unsafe_code, reason = "the C interface of a peer, in a benchmark")]

use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr::{null, null_mut};

use crate::work::{Peer, Record, Shape};

/// `DES_key_schedule`.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Schedule([u8; 128]);

#[link(name = "crypto")]
unsafe extern "C" {
    fn DES_set_key_unchecked(key: *const u8, schedule: *mut Schedule);
    fn DES_ecb_encrypt(from: *const u8, to: *mut u8, schedule: *mut Schedule, encrypt: c_int);
    fn DES_ecb3_encrypt(
        from: *const u8,
        to: *mut u8,
        first: *mut Schedule,
        second: *mut Schedule,
        third: *mut Schedule,
        encrypt: c_int,
    );
    fn DES_ncbc_encrypt(
        from: *const u8,
        to: *mut u8,
        length: c_long,
        schedule: *mut Schedule,
        chain: *mut u8,
        encrypt: c_int,
    );
    fn EVP_CIPHER_CTX_new() -> *mut c_void;
    fn EVP_CIPHER_fetch(library: *const c_void, name: *const c_char, properties: *const c_char) -> *mut c_void;
    fn EVP_CIPHER_CTX_set_padding(context: *mut c_void, padding: c_int) -> c_int;
    fn EVP_EncryptInit_ex(
        context: *mut c_void,
        cipher: *const c_void,
        engine: *const c_void,
        key: *const u8,
        initial: *const u8,
    ) -> c_int;
    fn EVP_EncryptUpdate(
        context: *mut c_void,
        to: *mut u8,
        written: *mut c_int,
        from: *const u8,
        length: c_int,
    ) -> c_int;
    fn CMAC_CTX_new() -> *mut c_void;
    fn CMAC_Init(context: *mut c_void, key: *const u8, length: usize, cipher: *const c_void, e: *const c_void)
    -> c_int;
    fn CMAC_Update(context: *mut c_void, text: *const u8, length: usize) -> c_int;
    fn CMAC_Final(context: *mut c_void, mac: *mut u8, length: *mut usize) -> c_int;
}

/// Contexts that are made once and keyed again for each record. They live as long as the process.
pub(crate) struct OpenSsl {
    master: [u8; 16],
    schedules: [Schedule; 2],
    ecb: *mut c_void,
    cbc: *mut c_void,
    cmac: *mut c_void,
    cmac_cipher: *mut c_void,
}

impl OpenSsl {
    pub(crate) fn new(shape: Shape, master: [u8; 16]) -> Self {
        let (ecb, cbc) = if shape.is_aes() { (c"AES-128-ECB", c"AES-128-CBC") } else { (c"SM4-ECB", c"SM4-CBC") };
        Self {
            master,
            schedules: [schedule(&master[..8]), schedule(&master[8..])],
            ecb: context(ecb, &master),
            cbc: context(cbc, &master),
            // SAFETY: has no preconditions.
            cmac: unsafe { CMAC_CTX_new() },
            cmac_cipher: fetch(c"AES-128-CBC"),
        }
    }

    fn des3(&mut self, block: [u8; 8]) -> [u8; 8] {
        let mut out = [0; 8];
        let [first, second] = &mut self.schedules;
        let (first, second): (*mut Schedule, *mut Schedule) = (first, second);
        // SAFETY: blocks of 8 bytes and initialised schedules; the library only reads the schedules.
        unsafe { DES_ecb3_encrypt(block.as_ptr(), out.as_mut_ptr(), first, second, first, 1) };
        out
    }

    fn wide(&mut self, block: [u8; 16]) -> [u8; 16] {
        let (mut out, mut written) = ([0; 16], 0);
        // SAFETY: an initialised context without padding; 16 bytes are read and written.
        let done = unsafe { EVP_EncryptUpdate(self.ecb, out.as_mut_ptr(), &mut written, block.as_ptr(), 16) };
        assert_eq!((done, written), (1, 16));
        out
    }

    fn card_key(&mut self, shape: Shape, record: &Record) -> [u8; 16] {
        if !shape.disperses() {
            return self.master;
        }
        let complement = record.factor.map(|byte| !byte);
        let mut key = [0; 16];
        if shape.is_des() {
            key[..8].copy_from_slice(&self.des3(record.factor));
            key[8..].copy_from_slice(&self.des3(complement));
            key
        } else {
            key[..8].copy_from_slice(&record.factor);
            key[8..].copy_from_slice(&complement);
            self.wide(key)
        }
    }
}

impl Peer for OpenSsl {
    fn record(&mut self, shape: Shape, record: &Record) -> [u8; 16] {
        let mut result = [0; 16];
        match shape {
            Shape::DisperseDes | Shape::DisperseSm4 | Shape::DisperseAes => return self.card_key(shape, record),
            Shape::DesTac | Shape::DesTacMixed => {
                let key = self.card_key(shape, record);
                let folded: [u8; 8] = std::array::from_fn(|i| key[i] ^ key[i + 8]);
                result[..8].copy_from_slice(&des_chain(&mut schedule(&folded), &record.text));
            }
            Shape::DesSession => {
                let key = self.des3(record.factor);
                result[..8].copy_from_slice(&des_chain(&mut schedule(&key), &record.text));
            }
            Shape::Retail => {
                let key = self.card_key(shape, record);
                let (mut first, mut second) = (schedule(&key[..8]), schedule(&key[8..]));
                let chain = des_chain(&mut first, &record.text);
                let mut middle = [0; 8];
                // SAFETY: blocks of 8 bytes and initialised schedules.
                unsafe {
                    DES_ecb_encrypt(chain.as_ptr(), middle.as_mut_ptr(), &mut second, 0);
                    DES_ecb_encrypt(middle.as_ptr(), result.as_mut_ptr(), &mut first, 1);
                }
            }
            Shape::Sm4Tac | Shape::Sm4Fixed => {
                let key = self.card_key(shape, record);
                let (mut out, mut written) = ([0; 64], 0);
                let length = record.text.len() as c_int;
                assert!(record.text.len() <= out.len());
                let key = if shape.disperses() { key.as_ptr() } else { null() };
                // SAFETY: a context without padding; the text, whole blocks, fits into `out`.
                unsafe {
                    EVP_EncryptInit_ex(self.cbc, null(), null(), key, [0; 16].as_ptr());
                    EVP_EncryptUpdate(self.cbc, out.as_mut_ptr(), &mut written, record.text.as_ptr(), length);
                }
                result.copy_from_slice(&out[record.text.len() - 16..record.text.len()]);
            }
            Shape::AesCmac => {
                let key = self.card_key(shape, record);
                let mut length = 16;
                // SAFETY: a key of the cipher's length, a text of the length given, and room for the MAC.
                unsafe {
                    CMAC_Init(self.cmac, key.as_ptr(), 16, self.cmac_cipher, null());
                    CMAC_Update(self.cmac, record.text.as_ptr(), record.text.len());
                    CMAC_Final(self.cmac, result.as_mut_ptr(), &mut length);
                }
            }
        }
        result
    }
}

fn schedule(key: &[u8]) -> Schedule {
    let mut schedule = Schedule([0; 128]);
    // SAFETY: a key of 8 bytes and room for its schedule.
    unsafe { DES_set_key_unchecked(key[..8].as_ptr(), &mut schedule) };
    schedule
}

fn des_chain(schedule: &mut Schedule, text: &[u8]) -> [u8; 8] {
    let (mut chain, mut out) = ([0; 8], [0; 128]);
    assert!(text.len() <= out.len());
    // SAFETY: whole blocks of text that fit into `out`, and a chaining value of 8 bytes.
    unsafe {
        DES_ncbc_encrypt(text.as_ptr(), out.as_mut_ptr(), text.len() as c_long, schedule, chain.as_mut_ptr(), 1);
    }
    chain
}

fn fetch(name: &std::ffi::CStr) -> *mut c_void {
    // SAFETY: a string that ends with zero.
    let cipher = unsafe { EVP_CIPHER_fetch(null(), name.as_ptr(), null()) };
    assert!(!cipher.is_null(), "OpenSSL has no {name:?}");
    cipher
}

fn context(name: &std::ffi::CStr, key: &[u8; 16]) -> *mut c_void {
    let cipher = fetch(name);
    // SAFETY: a fetched cipher and a key and initial value of its lengths.
    let (context, done) = unsafe {
        let context = EVP_CIPHER_CTX_new();
        let done = EVP_EncryptInit_ex(context, cipher, null_mut(), key.as_ptr(), [0; 16].as_ptr());
        (context, done & EVP_CIPHER_CTX_set_padding(context, 0))
    };
    assert_eq!(done, 1);
    context
}
