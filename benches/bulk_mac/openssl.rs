//! OpenSSL by its fastest interfaces: `DES_*`, EVP for SM4 and AES, `CMAC_*`.

#![expect(unsafe_code, reason = "the C interface of a peer, in a benchmark")]

use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr::{null, null_mut};

use claviger_bulk_mac::{Cipher, Mac};

use crate::work::{CardKey, Peer, Record, Shape, with_complement};

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
    /// Under the master key.
    ecb: *mut c_void,
    /// Under any other, level by level.
    level: *mut c_void,
    cbc: *mut c_void,
    cmac: *mut c_void,
    cmac_cipher: *mut c_void,
}

impl OpenSsl {
    pub(crate) fn new(shape: Shape, master: [u8; 16]) -> Self {
        let aes = shape.cipher == Cipher::Aes128;
        let (ecb, cbc) = if aes { (c"AES-128-ECB", c"AES-128-CBC") } else { (c"SM4-ECB", c"SM4-CBC") };
        // SAFETY: has no preconditions.
        let cmac = unsafe { CMAC_CTX_new() };
        let cmac_cipher = fetch(c"AES-128-CBC");
        // SAFETY: a context, a key of the cipher's length, and the cipher.
        unsafe { CMAC_Init(cmac, master.as_ptr(), 16, cmac_cipher, null()) };
        Self {
            master,
            schedules: [schedule(&master[..8]), schedule(&master[8..])],
            ecb: context(ecb, &master),
            level: context(ecb, &master),
            cbc: context(cbc, &master),
            cmac,
            cmac_cipher,
        }
    }

    /// The record's key, or nothing where it is the master key.
    fn key(&mut self, shape: Shape, record: &Record) -> Option<[u8; 16]> {
        if shape.key == CardKey::Session {
            return Some(match shape.cipher {
                Cipher::TripleDes => with_zeros(des3(&mut self.schedules, record.factors[0])),
                _ => encrypted(self.ecb, with_complement(record.factors[0])),
            });
        }
        let (first, others) = record.factors[..shape.levels()].split_first()?;
        let mut key = match shape.cipher {
            Cipher::TripleDes => both_halves(&mut self.schedules, *first),
            _ => encrypted(self.ecb, with_complement(*first)),
        };
        for factor in others {
            key = match shape.cipher {
                Cipher::TripleDes => both_halves(&mut [schedule(&key[..8]), schedule(&key[8..])], *factor),
                _ => {
                    // SAFETY: an initialised context, and a key of the cipher's length.
                    unsafe { EVP_EncryptInit_ex(self.level, null(), null(), key.as_ptr(), null()) };
                    encrypted(self.level, with_complement(*factor))
                }
            };
        }
        if shape.key == CardKey::Folded {
            key = with_zeros(std::array::from_fn(|i| key[i] ^ key[i + 8]));
        }
        Some(key)
    }

    /// By the cipher's own chaining, under the master key if none is given.
    fn wide_chain(&mut self, key: Option<[u8; 16]>, text: &[u8]) -> [u8; 16] {
        let (mut out, mut written) = ([0; 64], 0);
        assert!(text.len() <= out.len());
        let key = key.as_ref().map_or(null(), |key| key.as_ptr());
        // SAFETY: a context without padding; the text, whole blocks, fits into `out`.
        unsafe {
            EVP_EncryptInit_ex(self.cbc, null(), null(), key, [0; 16].as_ptr());
            EVP_EncryptUpdate(self.cbc, out.as_mut_ptr(), &mut written, text.as_ptr(), text.len() as c_int);
        }
        *out[..text.len()].last_chunk().unwrap()
    }

    fn cmac(&mut self, key: Option<[u8; 16]>, text: &[u8]) -> [u8; 16] {
        let (mut mac, mut length) = ([0; 16], 16);
        // SAFETY: a key of the cipher's length or none, which keeps the one before; a text of the length given, and
        // room for the MAC.
        unsafe {
            match key {
                Some(key) => CMAC_Init(self.cmac, key.as_ptr(), 16, self.cmac_cipher, null()),
                None => CMAC_Init(self.cmac, null(), 0, null(), null()),
            };
            CMAC_Update(self.cmac, text.as_ptr(), text.len());
            CMAC_Final(self.cmac, mac.as_mut_ptr(), &mut length);
        }
        mac
    }
}

impl Peer for OpenSsl {
    fn record(&mut self, shape: Shape, record: &Record) -> [u8; 16] {
        let key = self.key(shape, record);
        let Some((mac, _)) = shape.mac else { return key.unwrap_or(self.master) };
        match (shape.cipher, mac) {
            (Cipher::TripleDes, Mac::Retail) => match key {
                None => retail(&mut self.schedules, &record.text),
                Some(key) => retail(&mut [schedule(&key[..8]), schedule(&key[8..])], &record.text),
            },
            (Cipher::TripleDes, _) => {
                let key = key.unwrap_or(self.master);
                with_zeros(des_chain(&mut schedule(&key[..8]), &record.text))
            }
            (_, Mac::Cmac) => self.cmac(key, &record.text),
            _ => self.wide_chain(key, &record.text),
        }
    }

    fn blocks(&mut self, _: Cipher, blocks: &mut [[u8; 16]]) {
        let bytes = blocks.as_flattened_mut();
        let mut written = 0;
        // SAFETY: an initialised context without padding, which may encipher whole blocks where they stand.
        let done = unsafe {
            let at = bytes.as_mut_ptr();
            EVP_EncryptUpdate(self.ecb, at, &mut written, at, bytes.len() as c_int)
        };
        assert_eq!((done, written as usize), (1, bytes.len()));
    }
}

fn schedule(key: &[u8]) -> Schedule {
    let mut schedule = Schedule([0; 128]);
    // SAFETY: a key of 8 bytes and room for its schedule.
    unsafe { DES_set_key_unchecked(key[..8].as_ptr(), &mut schedule) };
    schedule
}

fn with_zeros(half: [u8; 8]) -> [u8; 16] {
    std::array::from_fn(|i| if i < 8 { half[i] } else { 0 })
}

fn des3([first, second]: &mut [Schedule; 2], block: [u8; 8]) -> [u8; 8] {
    let mut out = [0; 8];
    let (first, second): (*mut Schedule, *mut Schedule) = (first, second);
    // SAFETY: blocks of 8 bytes and initialised schedules; the library only reads the schedules.
    unsafe { DES_ecb3_encrypt(block.as_ptr(), out.as_mut_ptr(), first, second, first, 1) };
    out
}

fn both_halves(schedules: &mut [Schedule; 2], factor: [u8; 8]) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&des3(schedules, factor));
    key[8..].copy_from_slice(&des3(schedules, factor.map(|byte| !byte)));
    key
}

fn encrypted(context: *mut c_void, block: [u8; 16]) -> [u8; 16] {
    let (mut out, mut written) = ([0; 16], 0);
    // SAFETY: an initialised context without padding; 16 bytes are read and written.
    let done = unsafe { EVP_EncryptUpdate(context, out.as_mut_ptr(), &mut written, block.as_ptr(), 16) };
    assert_eq!((done, written), (1, 16));
    out
}

fn retail([first, second]: &mut [Schedule; 2], text: &[u8]) -> [u8; 16] {
    let chain = des_chain(first, text);
    let (mut middle, mut out) = ([0; 8], [0; 8]);
    // SAFETY: blocks of 8 bytes and initialised schedules.
    unsafe {
        DES_ecb_encrypt(chain.as_ptr(), middle.as_mut_ptr(), second, 0);
        DES_ecb_encrypt(middle.as_ptr(), out.as_mut_ptr(), first, 1);
    }
    with_zeros(out)
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
