//! DER of GM/T 0009-2012.

use der::asn1::{AnyRef, BitStringRef, Null, ObjectIdentifier, OctetStringRef, UintRef};
use der::{Decode, Encode, Reader, SliceReader, Tag};

use crate::error::{Field, KeyBlockError};
use crate::sm2::ciphertext::Sm2Ciphertext;

/// SM4 in ECB (GM/T 0006).
const SM4_ECB: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.104.1");

const BAD_DER: KeyBlockError = KeyBlockError::new(Field::Structure, "is not the DER of GM/T 0009");

/// What one reading function found, or that it is not DER.
type Read<T> = Result<T, der::Error>;

/// The parts of an `SM2Cipher`.
pub(super) struct CiphertextParts<'a> {
    x: &'a [u8],
    y: &'a [u8],
    hash: &'a [u8],
    ciphertext: &'a [u8],
}

impl CiphertextParts<'_> {
    pub(super) fn build(&self) -> Result<Sm2Ciphertext, KeyBlockError> {
        let hash = self.hash.try_into().map_err(|_| KeyBlockError::new(Field::Hash, "is not 32 bytes"))?;
        Sm2Ciphertext::from_parts(&number(self.x)?, &number(self.y)?, hash, self.ciphertext.to_vec())
    }
}

/// The parts of an `SM2EnvelopedKey`.
pub(super) struct EnvelopeParts<'a> {
    pub(super) algorithm: ObjectIdentifier,
    pub(super) symmetric_key: CiphertextParts<'a>,
    pub(super) public_key: &'a [u8],
    pub(super) private_key: &'a [u8],
}

impl EnvelopeParts<'_> {
    pub(super) fn check_algorithm(&self) -> Result<(), KeyBlockError> {
        if self.algorithm == SM4_ECB {
            Ok(())
        } else {
            Err(KeyBlockError::new(Field::SymmetricAlgorithm, "is not SM4 in ECB"))
        }
    }
}

/// Reads DER that ends where the bytes do.
pub(super) fn read_whole<'a, T>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut SliceReader<'a>) -> Read<T>,
) -> Result<T, KeyBlockError> {
    let mut reader = SliceReader::new(bytes).map_err(|_| BAD_DER)?;
    let found = read(&mut reader).map_err(|_| BAD_DER)?;
    reader.finish().map_err(|_| BAD_DER)?;
    Ok(found)
}

pub(super) fn read_ciphertext<'a>(reader: &mut SliceReader<'a>) -> Read<CiphertextParts<'a>> {
    reader.sequence(|reader| {
        Ok(CiphertextParts {
            x: UintRef::decode(reader)?.as_bytes(),
            y: UintRef::decode(reader)?.as_bytes(),
            hash: <&OctetStringRef>::decode(reader)?.as_bytes(),
            ciphertext: <&OctetStringRef>::decode(reader)?.as_bytes(),
        })
    })
}

pub(super) fn read_envelope<'a>(reader: &mut SliceReader<'a>) -> Read<EnvelopeParts<'a>> {
    reader.sequence(|reader| {
        Ok(EnvelopeParts {
            algorithm: reader.sequence(read_algorithm)?,
            symmetric_key: read_ciphertext(reader)?,
            public_key: read_bits(reader)?,
            private_key: read_bits(reader)?,
        })
    })
}

/// The parameters are absent, or NULL: issuers do either.
fn read_algorithm<'a>(reader: &mut SliceReader<'a>) -> Read<ObjectIdentifier> {
    let algorithm = ObjectIdentifier::decode(reader)?;
    if !reader.is_finished() {
        Null::decode(reader)?;
    }
    Ok(algorithm)
}

fn read_bits<'a>(reader: &mut SliceReader<'a>) -> Read<&'a [u8]> {
    let bits = BitStringRef::decode(reader)?;
    bits.as_bytes().ok_or_else(|| Tag::BitString.value_error().into())
}

pub(super) fn write_ciphertext(
    x: &[u8; 32],
    y: &[u8; 32],
    hash: &[u8; 32],
    ciphertext: &[u8],
) -> Result<Vec<u8>, KeyBlockError> {
    let write = || -> Read<Vec<u8>> {
        sequence(&[
            UintRef::new(x)?.to_der()?,
            UintRef::new(y)?.to_der()?,
            OctetStringRef::new(hash)?.to_der()?,
            OctetStringRef::new(ciphertext)?.to_der()?,
        ])
    };
    write().map_err(|_| BAD_DER)
}

/// `ciphertext` is DER itself.
pub(super) fn write_envelope(
    ciphertext: Vec<u8>,
    public_key: &[u8],
    private_key: &[u8],
) -> Result<Vec<u8>, KeyBlockError> {
    let write = || -> Read<Vec<u8>> {
        let algorithm = sequence(&[SM4_ECB.to_der()?])?;
        let public_key = BitStringRef::from_bytes(public_key)?.to_der()?;
        let private_key = BitStringRef::from_bytes(private_key)?.to_der()?;
        sequence(&[algorithm, ciphertext, public_key, private_key])
    };
    write().map_err(|_| BAD_DER)
}

fn sequence(parts: &[Vec<u8>]) -> Read<Vec<u8>> {
    AnyRef::new(Tag::Sequence, &parts.concat())?.to_der()
}

/// 32 bytes, with the zeros that DER leaves out in front.
fn number(bytes: &[u8]) -> Result<[u8; 32], KeyBlockError> {
    let long = KeyBlockError::new(Field::Point, "has a coordinate of more than 32 bytes");
    let zeros = 32usize.checked_sub(bytes.len()).ok_or(long)?;
    let mut number = [0; 32];
    number.iter_mut().skip(zeros).zip(bytes).for_each(|(byte, given)| *byte = *given);
    Ok(number)
}
