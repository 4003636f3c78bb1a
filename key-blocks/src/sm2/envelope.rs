//! An SM2 key pair for somebody: its private key in SM4-ECB under a fresh key, and that key under their public key.

use zeroize::Zeroizing;

use crate::cipher::{BlockKey, Cipher};
use crate::error::{Field, KeyBlockError, Random};
use crate::sm2::asn1;
use crate::sm2::ciphertext::Sm2Ciphertext;
use crate::sm2::keys::{Sm2PrivateKey, Sm2PublicKey};
use crate::sm2::structure::{IntegerOrder, Reader, right_aligned};

/// SGD_SM4_ECB (GM/T 0006).
const SGD_SM4_ECB: u32 = 0x0000_0401;

/// Of SKF's structure.
const VERSION: u32 = 1;

/// Of an SM2 key.
const BITS: u32 = 256;

/// An enveloped key pair, in whichever layout it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopedKey {
    public_key: Sm2PublicKey,
    symmetric_key: Sm2Ciphertext,
    private_key: [u8; 32],
}

impl EnvelopedKey {
    /// Envelopes a key pair. Of the randomness, 16 bytes become the symmetric key and the rest encrypts that.
    ///
    /// # Errors
    /// `randomness`.
    pub fn seal(recipient: &Sm2PublicKey, key: &Sm2PrivateKey, random: &mut Random<'_>) -> Result<Self, KeyBlockError> {
        let mut symmetric_key = Zeroizing::new([0; 16]);
        random(&mut symmetric_key[..])?;
        let mut private_key = key.bytes();
        BlockKey::new(Cipher::Sm4, &symmetric_key[..])?.encrypt(&mut private_key[..])?;
        let symmetric_key = Sm2Ciphertext::seal(recipient, &symmetric_key[..], random)?;
        Ok(Self { public_key: key.public_key(), symmetric_key, private_key: *private_key })
    }

    /// The private key, once it is seen to belong to the public key beside it: ECB itself authenticates nothing.
    ///
    /// # Errors
    /// `hash` for another recipient or a changed ciphertext; `symmetric key` if that is not 16 bytes; `private key` if what
    /// comes out is none, or not that of the public key.
    pub fn open(&self, recipient: &Sm2PrivateKey) -> Result<Sm2PrivateKey, KeyBlockError> {
        let symmetric_key = self.symmetric_key.open(recipient)?;
        let symmetric_key = BlockKey::new(Cipher::Sm4, symmetric_key.expose())
            .map_err(|_| KeyBlockError::new(Field::SymmetricKey, "is not 16 bytes"))?;
        let mut private_key = Zeroizing::new(self.private_key);
        symmetric_key.decrypt(&mut private_key[..])?;
        let private_key = Sm2PrivateKey::from_bytes(&private_key[..])?;
        if private_key.public_key() == self.public_key {
            Ok(private_key)
        } else {
            Err(KeyBlockError::new(Field::PrivateKey, "is not that of the public key beside it"))
        }
    }

    /// The public key of the pair.
    pub fn public_key(&self) -> &Sm2PublicKey {
        &self.public_key
    }

    /// From ENVELOPEDKEYBLOB of GM/T 0016 (SKF): `Version (4) || ulSymmAlgID (4) || ulBits (4) || cbEncryptedPriKey (64) ||
    /// PubKey || ECCCipherBlob`, where PubKey is `bits (4) || x (64) || y (64)`. Of cbEncryptedPriKey the left half is zeros
    /// and the right one SM4-ECB.
    ///
    /// # Errors
    /// The field that is not so.
    pub fn from_skf(bytes: &[u8], order: IntegerOrder) -> Result<Self, KeyBlockError> {
        let mut reader = Reader::new(bytes, order);
        read_head(&mut reader, VERSION)?;
        read_bits(&mut reader)?;
        let private_key = reader.number(Field::PrivateKey)?;
        let public_key = read_public_key(&mut reader)?;
        let symmetric_key = Sm2Ciphertext::read(&mut reader)?;
        reader.finish()?;
        Ok(Self { public_key, symmetric_key, private_key })
    }

    /// The same structure.
    pub fn to_skf(&self, order: IntegerOrder) -> Vec<u8> {
        let head = [VERSION, SGD_SM4_ECB, BITS].map(|number| order.bytes(number)).concat();
        let ciphertext = self.symmetric_key.to_structure(order);
        [head, right_aligned(&self.private_key).to_vec(), self.public_key_structure(order), ciphertext].concat()
    }

    /// From EnvelopedKeyBlob of GM/T 0018 (SDF): `first (4) || ulSymmAlgID (4) || ECCCipherBlob || PubKey ||
    /// cbEncryptedPriKey (64)`, with the last two as in [`EnvelopedKey::from_skf`]. Devices differ in what stands `first`: a
    /// version (1), or the algorithm of the pair (SGD_SM2_3, 0x00020800).
    ///
    /// # Errors
    /// The field that is not so.
    pub fn from_sdf(bytes: &[u8], order: IntegerOrder, first: u32) -> Result<Self, KeyBlockError> {
        let mut reader = Reader::new(bytes, order);
        read_head(&mut reader, first)?;
        let symmetric_key = Sm2Ciphertext::read(&mut reader)?;
        let public_key = read_public_key(&mut reader)?;
        let private_key = reader.number(Field::PrivateKey)?;
        reader.finish()?;
        Ok(Self { public_key, symmetric_key, private_key })
    }

    /// The same structure.
    pub fn to_sdf(&self, order: IntegerOrder, first: u32) -> Vec<u8> {
        let head = [first, SGD_SM4_ECB].map(|number| order.bytes(number)).concat();
        let ciphertext = self.symmetric_key.to_structure(order);
        [head, ciphertext, self.public_key_structure(order), right_aligned(&self.private_key).to_vec()].concat()
    }

    /// From the DER of `SM2EnvelopedKey` (GM/T 0009-2012, 7.4): `SEQUENCE { AlgorithmIdentifier, SM2Cipher, public key BIT
    /// STRING 04 || x || y, encrypted private key BIT STRING }`. The algorithm's parameters may be absent or NULL.
    ///
    /// # Errors
    /// The field that is not so.
    pub fn from_der(bytes: &[u8]) -> Result<Self, KeyBlockError> {
        let parts = asn1::read_whole(bytes, asn1::read_envelope)?;
        parts.check_algorithm()?;
        let not_32 = KeyBlockError::new(Field::PrivateKey, "is not 32 encrypted bytes");
        Ok(Self {
            public_key: Sm2PublicKey::from_bytes(parts.public_key)?,
            symmetric_key: parts.symmetric_key.build()?,
            private_key: parts.private_key.try_into().map_err(|_| not_32)?,
        })
    }

    /// The same DER, without parameters.
    ///
    /// # Errors
    /// `structure`, for a ciphertext longer than DER can say.
    pub fn to_der(&self) -> Result<Vec<u8>, KeyBlockError> {
        let (x, y) = self.public_key.coordinates();
        let public_key = [&[0x04], &x[..], &y[..]].concat();
        asn1::write_envelope(self.symmetric_key.to_der()?, &public_key, &self.private_key)
    }

    fn public_key_structure(&self, order: IntegerOrder) -> Vec<u8> {
        let (x, y) = self.public_key.coordinates();
        [&order.bytes(BITS)[..], &right_aligned(&x), &right_aligned(&y)].concat()
    }
}

fn read_head(reader: &mut Reader<'_>, first: u32) -> Result<(), KeyBlockError> {
    if reader.integer()? != first {
        return Err(KeyBlockError::new(Field::StructureVersion, "is another, or in another order of integers"));
    }
    if reader.integer()? != SGD_SM4_ECB {
        return Err(KeyBlockError::new(Field::SymmetricAlgorithm, "is not SGD_SM4_ECB"));
    }
    Ok(())
}

fn read_bits(reader: &mut Reader<'_>) -> Result<(), KeyBlockError> {
    if reader.integer()? == BITS { Ok(()) } else { Err(KeyBlockError::new(Field::PublicKey, "is not of 256 bits")) }
}

fn read_public_key(reader: &mut Reader<'_>) -> Result<Sm2PublicKey, KeyBlockError> {
    read_bits(reader)?;
    let (x, y) = (reader.number(Field::PublicKey)?, reader.number(Field::PublicKey)?);
    Sm2PublicKey::from_coordinates(&x, &y)
}
