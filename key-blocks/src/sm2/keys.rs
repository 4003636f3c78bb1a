//! SM2 keys (GB/T 32918.1).

use ::sm2::elliptic_curve::sec1::ToSec1Point as _;
use ::sm2::{PublicKey, Scalar, SecretKey};
use zeroize::Zeroizing;

use crate::error::{Field, KeyBlockError};
use crate::key_bytes::KeyBytes;

/// A point of the curve other than infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sm2PublicKey(pub(super) PublicKey);

impl Sm2PublicKey {
    /// From `04 || X || Y` or `X || Y`, big endian.
    ///
    /// # Errors
    /// `public key`, if that is not a point of the curve.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyBlockError> {
        let point = match bytes {
            [0x04, point @ ..] if point.len() == 64 => point,
            point => point,
        };
        let (x, y) = point.split_at_checked(32).unwrap_or_default();
        match (x.try_into(), y.try_into()) {
            (Ok(x), Ok(y)) => Self::from_coordinates(x, y),
            _ => Err(NO_POINT),
        }
    }

    pub(super) fn from_coordinates(x: &[u8; 32], y: &[u8; 32]) -> Result<Self, KeyBlockError> {
        let point = [&[0x04], &x[..], &y[..]].concat();
        PublicKey::from_sec1_bytes(&point).map(Self).map_err(|_| NO_POINT)
    }

    /// X and Y, big endian.
    pub fn coordinates(&self) -> ([u8; 32], [u8; 32]) {
        coordinates(self.0.as_affine())
    }
}

const NO_POINT: KeyBlockError = KeyBlockError::new(Field::PublicKey, "is not a point of the SM2 curve");

/// A private key, wiped on drop. Neither printable nor comparable.
pub struct Sm2PrivateKey(SecretKey);

impl Sm2PrivateKey {
    /// From 32 bytes, big endian.
    ///
    /// # Errors
    /// `private key`, if the number is not one of 1 to n - 2 (GB/T 32918.1, 6.1).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyBlockError> {
        let wrong = KeyBlockError::new(Field::PrivateKey, "is not 32 bytes with a number from 1 to n - 2");
        let key = SecretKey::from_slice(bytes).map_err(|_| wrong)?;
        if bytes.len() != 32 || bool::from((*key.to_nonzero_scalar() + Scalar::ONE).is_zero()) {
            return Err(wrong);
        }
        Ok(Self(key))
    }

    /// The public key that belongs to it.
    pub fn public_key(&self) -> Sm2PublicKey {
        Sm2PublicKey(self.0.public_key())
    }

    /// 32 bytes, big endian.
    pub fn to_bytes(&self) -> KeyBytes {
        KeyBytes::copy_of(&self.bytes()[..])
    }

    pub(super) fn bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes().into())
    }

    pub(super) fn scalar(&self) -> Zeroizing<Scalar> {
        Zeroizing::new(*self.0.to_nonzero_scalar())
    }
}

/// X and Y of a point that is not infinity.
pub(super) fn coordinates(point: &::sm2::AffinePoint) -> ([u8; 32], [u8; 32]) {
    let point = point.to_sec1_point(false);
    let coordinate = |found: Option<&_>| found.map_or([0; 32], |bytes: &::sm2::FieldBytes| (*bytes).into());
    (coordinate(point.x()), coordinate(point.y()))
}
