//! SM2 encryption (GB/T 32918.4), with its forms as the ECCCipher structure and as the SM2Cipher of ASN.1.

use ::sm2::elliptic_curve::Group as _;
use ::sm2::{NonZeroScalar, ProjectivePoint, Scalar};
use sm3::{Digest, Sm3};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{Field, KeyBlockError, Random};
use crate::key_bytes::KeyBytes;
use crate::sm2::asn1;
use crate::sm2::keys::{Sm2PrivateKey, Sm2PublicKey, coordinates};
use crate::sm2::structure::{IntegerOrder, Reader, right_aligned};

/// A generator that gives no usable number this often is broken: each try fails with 2^-32 at most.
const TRIES: usize = 64;

/// C1 = (x, y), C3 and C2 of a ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sm2Ciphertext {
    point: Sm2PublicKey,
    hash: [u8; 32],
    ciphertext: Vec<u8>,
}

impl Sm2Ciphertext {
    pub(super) fn from_parts(
        x: &[u8; 32],
        y: &[u8; 32],
        hash: [u8; 32],
        ciphertext: Vec<u8>,
    ) -> Result<Self, KeyBlockError> {
        let not_on_curve = |_| KeyBlockError::new(Field::Point, "is not a point of the SM2 curve");
        let point = Sm2PublicKey::from_coordinates(x, y).map_err(not_on_curve)?;
        if ciphertext.is_empty() {
            return Err(KeyBlockError::new(Field::Ciphertext, "is empty"));
        }
        Ok(Self { point, hash, ciphertext })
    }

    /// Encrypts a key, or any message that is not empty.
    ///
    /// # Errors
    /// `key`, if it is empty; `randomness`.
    pub fn seal(recipient: &Sm2PublicKey, key: &[u8], random: &mut Random<'_>) -> Result<Self, KeyBlockError> {
        if key.is_empty() {
            return Err(KeyBlockError::new(Field::Key, "is empty"));
        }
        for _ in 0..TRIES {
            let mut number = Zeroizing::new([0; 32]);
            random(&mut number[..])?;
            let Ok(k) = NonZeroScalar::try_from(&number[..]).map(Zeroizing::new) else { continue };
            let point = ProjectivePoint::mul_by_generator(&k);
            let shared = Shared::new(&recipient.0.to_projective(), &k);
            let mut ciphertext = Zeroizing::new(key.to_vec());
            // GB/T 32918.4, 6.1 A5: a mask of zeros would leave the key in the clear.
            if !shared.mask(&mut ciphertext) {
                continue;
            }
            let (x, y) = coordinates(&point.to_affine());
            return Self::from_parts(&x, &y, shared.hash(key), ciphertext.to_vec());
        }
        Err(KeyBlockError::new(Field::Randomness, "gives no usable number"))
    }

    /// Decrypts, and gives the key only once C3 holds.
    ///
    /// # Errors
    /// `hash`, if C3 does not hold: another private key, or the ciphertext was changed.
    pub fn open(&self, key: &Sm2PrivateKey) -> Result<KeyBytes, KeyBlockError> {
        let shared = Shared::new(&self.point.0.to_projective(), &key.scalar());
        let mut plain = Zeroizing::new(self.ciphertext.clone());
        let masked = shared.mask(&mut plain);
        let holds = bool::from(shared.hash(&plain).ct_eq(&self.hash));
        if masked && holds {
            Ok(plain.into())
        } else {
            Err(KeyBlockError::new(Field::Hash, "does not hold: another private key, or the ciphertext was changed"))
        }
    }

    /// From ECCCipher of GM/T 0018: `x (64) || y (64) || M (32) || L (4) || C (L)`, and nothing after it. GM/T 0016 has
    /// the same under the name ECCCIPHERBLOB.
    ///
    /// # Errors
    /// `structure`, `point` or `ciphertext`.
    pub fn from_structure(bytes: &[u8], order: IntegerOrder) -> Result<Self, KeyBlockError> {
        let mut reader = Reader::new(bytes, order);
        let read = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(read)
    }

    /// The same structure.
    pub fn to_structure(&self, order: IntegerOrder) -> Vec<u8> {
        let (x, y) = self.point.coordinates();
        let len = order.bytes(self.ciphertext.len() as u32);
        [&right_aligned(&x)[..], &right_aligned(&y), &self.hash, &len, &self.ciphertext].concat()
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, KeyBlockError> {
        let x = reader.number(Field::Point)?;
        let y = reader.number(Field::Point)?;
        let hash = *reader.array::<32>()?;
        let len = reader.integer()? as usize;
        Self::from_parts(&x, &y, hash, reader.take(len)?.to_vec())
    }

    /// From the DER of `SM2Cipher` (GM/T 0009-2012, 7.2): `SEQUENCE { x INTEGER, y INTEGER, C3 OCTET STRING, C2 OCTET
    /// STRING }`.
    ///
    /// # Errors
    /// `structure`, `point` or `ciphertext`.
    pub fn from_der(bytes: &[u8]) -> Result<Self, KeyBlockError> {
        asn1::read_whole(bytes, asn1::read_ciphertext)?.build()
    }

    /// The same DER.
    ///
    /// # Errors
    /// `structure`, for a ciphertext longer than DER can say.
    pub fn to_der(&self) -> Result<Vec<u8>, KeyBlockError> {
        let (x, y) = self.point.coordinates();
        asn1::write_ciphertext(&x, &y, &self.hash, &self.ciphertext)
    }
}

/// `(x2, y2)`, which only the two sides can compute.
struct Shared {
    x: Zeroizing<[u8; 32]>,
    y: Zeroizing<[u8; 32]>,
}

impl Shared {
    /// Neither is infinity: the curve has a prime number of points, and the scalar is not zero.
    fn new(point: &ProjectivePoint, scalar: &Scalar) -> Self {
        let (x, y) = coordinates(&(*point * *scalar).to_affine());
        Self { x: Zeroizing::new(x), y: Zeroizing::new(y) }
    }

    /// XORs KDF(x2 || y2) onto the data; whether any of it was not zero.
    fn mask(&self, data: &mut [u8]) -> bool {
        let mut any = 0;
        for (counter, part) in (1u32..).zip(data.chunks_mut(32)) {
            let hash = Sm3::new().chain_update(*self.x).chain_update(*self.y).chain_update(counter.to_be_bytes());
            let stream = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
            for (byte, key) in part.iter_mut().zip(stream.iter()) {
                *byte ^= key;
                any |= key;
            }
        }
        any != 0
    }

    /// C3.
    fn hash(&self, message: &[u8]) -> [u8; 32] {
        Sm3::new().chain_update(*self.x).chain_update(message).chain_update(*self.y).finalize().into()
    }
}
