//! Shares: any m of n open what all of them were made for, and each shows by itself whether it is a good one.
//!
//! Feldman's scheme over P-256, by `vsss-rs`: a random scalar is shared, and what is to be opened is wrapped under a key that
//! follows from it. The commitments are public. A share is its number, the threshold and 32 bytes, big-endian.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::SeedableRng;
use claviger_hsm_api::Secret;
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::ff::PrimeField;
use p256::elliptic_curve::sec1::{FromSec1Point, ToSec1Point};
use p256::{AffinePoint, ProjectivePoint, Scalar};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vsss_rs::{
    DefaultShare, FeldmanVerifierSet, IdentifierPrimeField, ReadableShareSet, Share as _, ShareVerifierGroup, feldman,
};
use zeroize::Zeroizing;

type FieldShare = DefaultShare<IdentifierPrimeField<Scalar>, IdentifierPrimeField<Scalar>>;
type Verifier = ShareVerifierGroup<ProjectivePoint>;

/// Bytes of a share: number, threshold, value.
pub const SHARE_LEN: usize = 34;
/// The most shares of one secret.
pub const MOST_SHARES: u8 = 9;
const CONTEXT: &[u8] = b"claviger shares 1";

/// Why shares do not open anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Not two to nine, or more wanted than there are.
    #[error("shares are 2 to {MOST_SHARES}, of which 2 or more suffice")]
    Numbers,
    /// Not a share of this secret.
    #[error("share {0} is not one of these: it is mistyped, or of another time")]
    Wrong(u8),
    /// The same twice.
    #[error("share {0} is there already")]
    Twice(u8),
    /// Not enough.
    #[error("{found} shares of {wanted} are there")]
    TooFew {
        /// So many.
        found: usize,
        /// Of so many that it takes.
        wanted: u8,
    },
    /// No randomness, or commitments that are none.
    #[error("the shares' commitments cannot be used")]
    Broken,
}

/// What is public of shares: it tells a good one from a bad one, and opens nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commitments {
    /// How many suffice.
    pub threshold: u8,
    /// How many there are.
    pub count: u8,
    /// The generator and a point for each coefficient, compressed, hexadecimal.
    pub points: Vec<String>,
}

/// One share.
pub struct Share(Secret);

impl Share {
    /// The share that these bytes are.
    ///
    /// # Errors
    /// [`ShareError::Broken`] for another length.
    pub fn from_bytes(bytes: Secret) -> Result<Self, ShareError> {
        if bytes.len() == SHARE_LEN { Ok(Self(bytes)) } else { Err(ShareError::Broken) }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Secret {
        &self.0
    }

    /// Which of them it is, from one.
    pub fn number(&self) -> u8 {
        self.0.expose()[0]
    }

    fn in_field(&self) -> Option<FieldShare> {
        let mut value = Zeroizing::new([0; 32]);
        value.copy_from_slice(&self.0.expose()[2..]);
        let value = Option::<Scalar>::from(Scalar::from_repr((*value).into()))?;
        let number = Scalar::from(u64::from(self.number()));
        Some(FieldShare { identifier: IdentifierPrimeField(number), value: IdentifierPrimeField(value) })
    }
}

impl Commitments {
    /// Whether a share is one of these.
    ///
    /// # Errors
    /// [`ShareError`] names it.
    pub fn check(&self, share: &Share) -> Result<(), ShareError> {
        let wrong = ShareError::Wrong(share.number());
        if !(1..=self.count).contains(&share.number()) || share.0.expose()[1] != self.threshold {
            return Err(wrong);
        }
        let points = self.points()?;
        let share = share.in_field().ok_or_else(|| wrong.clone())?;
        points.verify_share(&share).map_err(|_| wrong)
    }

    fn points(&self) -> Result<Vec<Verifier>, ShareError> {
        let point = |text: &String| {
            let bytes = hex::decode(text).ok()?;
            let point = p256::Sec1Point::from_bytes(&bytes).ok()?;
            Option::<AffinePoint>::from(AffinePoint::from_sec1_point(&point))
                .map(|point| Verifier::from(ProjectivePoint::from(point)))
        };
        let points: Option<Vec<Verifier>> = self.points.iter().map(point).collect();
        points.filter(|points| points.len() == usize::from(self.threshold) + 1).ok_or(ShareError::Broken)
    }
}

/// Makes shares of a new secret: the key that they open, and what is public of them.
///
/// # Errors
/// [`ShareError`].
pub fn make_shares(threshold: u8, count: u8) -> Result<(Secret, Vec<Share>, Commitments), ShareError> {
    if !(2..=MOST_SHARES).contains(&count) || !(2..=count).contains(&threshold) {
        return Err(ShareError::Numbers);
    }
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|_| ShareError::Broken)?;
    let mut rng = ChaCha20Rng::from_seed(*seed);
    let secret = IdentifierPrimeField(*p256::NonZeroScalar::generate_from_rng(&mut rng).as_ref());
    let (shares, verifiers) = feldman::split_secret::<FieldShare, Verifier>(
        usize::from(threshold),
        usize::from(count),
        &secret,
        None,
        &mut rng,
    )
    .map_err(|_| ShareError::Broken)?;
    let point = |verifier: &Verifier| hex::encode(verifier.0.to_affine().to_sec1_point(true).as_bytes());
    let commitments = Commitments { threshold, count, points: verifiers.iter().map(point).collect() };
    let share = |(number, share): (u8, &FieldShare)| {
        Share(Secret::init(SHARE_LEN, |bytes| {
            bytes[0] = number;
            bytes[1] = threshold;
            bytes[2..].copy_from_slice(&share.value().0.to_repr());
        }))
    };
    Ok((key_of(&secret.0), (1..).zip(&shares).map(share).collect(), commitments))
}

/// The key that shares open, each of which must be a good one.
///
/// # Errors
/// [`ShareError`] names the first that is not.
pub fn join_shares(shares: &[Share], commitments: &Commitments) -> Result<Secret, ShareError> {
    let mut seen = Vec::new();
    for share in shares {
        commitments.check(share)?;
        if seen.contains(&share.number()) {
            return Err(ShareError::Twice(share.number()));
        }
        seen.push(share.number());
    }
    if seen.len() < usize::from(commitments.threshold) {
        return Err(ShareError::TooFew { found: seen.len(), wanted: commitments.threshold });
    }
    let shares: Option<Vec<FieldShare>> = shares.iter().map(Share::in_field).collect();
    let secret = shares.ok_or(ShareError::Broken)?.combine().map_err(|_| ShareError::Broken)?;
    Ok(key_of(&secret.0))
}

fn key_of(secret: &Scalar) -> Secret {
    let repr = Zeroizing::new(<[u8; 32]>::from(secret.to_repr()));
    Secret::taking(Sha256::new().chain_update(CONTEXT).chain_update(*repr).finalize().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(shares: &[Share], which: &[usize]) -> Vec<Share> {
        which.iter().map(|at| Share(Secret::copy_of(shares[*at].0.expose()))).collect()
    }

    #[test]
    fn every_three_of_five_open_it_and_no_two_do() {
        let (key, shares, commitments) = make_shares(3, 5).unwrap();
        let mut tried = 0;
        for subset in 1_u8..32 {
            let which: Vec<usize> = (0..5).filter(|at| subset >> at & 1 == 1).collect();
            let joined = join_shares(&copies(&shares, &which), &commitments);
            if which.len() >= 3 {
                assert_eq!(joined.unwrap().expose(), key.expose(), "{which:?}");
                tried += 1;
            } else {
                let few = ShareError::TooFew { found: which.len(), wanted: 3 };
                assert_eq!(joined.err(), Some(few), "{which:?}");
                // Nor by somebody who says that two suffice.
                let fewer = Commitments { threshold: 2, ..commitments.clone() };
                assert!(join_shares(&copies(&shares, &which), &fewer).is_err());
            }
        }
        assert_eq!(tried, 16);
    }

    #[test]
    fn a_bad_share_is_named() {
        let (_, shares, commitments) = make_shares(3, 5).unwrap();
        let (_, others, other) = make_shares(3, 5).unwrap();
        assert_ne!(commitments, other);
        for (at, byte) in [(0, 1), (1, 7), (3, 20), (4, 33)] {
            let mut bytes = Secret::copy_of(shares[at].0.expose());
            bytes.expose_mut()[byte] ^= 1;
            let bad = Share::from_bytes(bytes).unwrap();
            assert_eq!(commitments.check(&bad), Err(ShareError::Wrong(at as u8 + 1)));
            let mut three = copies(&shares, &[2, 1]);
            three.push(bad);
            assert_eq!(join_shares(&three, &commitments).err(), Some(ShareError::Wrong(at as u8 + 1)));
        }
        assert_eq!(commitments.check(&others[2]), Err(ShareError::Wrong(3)), "of another time");
        let twice = copies(&shares, &[0, 1, 0]);
        assert_eq!(join_shares(&twice, &commitments).err(), Some(ShareError::Twice(1)));
        for (threshold, count) in [(1, 5), (6, 5), (2, 10), (0, 0), (2, 1)] {
            assert_eq!(make_shares(threshold, count).err(), Some(ShareError::Numbers));
        }
        assert!(Share::from_bytes(Secret::copy_of(&[1; 33])).is_err());
        let mut less = commitments.clone();
        less.points.pop();
        assert_eq!(less.check(&shares[0]), Err(ShareError::Broken));
    }

    /// Lagrange's formula once more, by integers: what the library joins is what Shamir's scheme says.
    #[test]
    fn shares_are_points_of_a_polynomial() {
        let (key, shares, _) = make_shares(2, 3).unwrap();
        let value = |at: usize| {
            Option::<Scalar>::from(Scalar::from_repr(<[u8; 32]>::try_from(&shares[at].0.expose()[2..]).unwrap().into()))
                .unwrap()
        };
        // A line through (1, a) and (2, b) meets the axis at 2a - b, and 3 at 2b - a.
        let (a, b, c) = (value(0), value(1), value(2));
        assert_eq!(key_of(&(a + a - b)).expose(), key.expose());
        assert_eq!(b + b - a, c);
    }
}
