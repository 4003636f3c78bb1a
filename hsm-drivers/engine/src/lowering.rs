//! How far a device takes a recipe, and what must leave it for the rest.
//!
//! One function, [`split`], cuts every key path where the device's proven capabilities end. Both the
//! exposure that a driver states and the work that it does come from that one cut, so they cannot
//! disagree.

use claviger_hsm_api::{Algorithm, Exposure, Finish, KeyPath, Leg, Recipe, Step};

/// What a device was proved to do with one derivation step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The derived key stays inside, as an object of its own.
    Inside,
    /// The device computes it (by ECB over the factors, say), but it comes out.
    ComesOut,
    /// Not at all.
    Never,
}

/// The proven capabilities of a device.
pub trait Capabilities {
    /// Whether a step from a key of `algorithm` can be taken.
    fn step(&self, algorithm: Algorithm, step: &Step) -> Reach;
    /// Whether a finish can be run inside on a key of `algorithm`.
    fn finish(&self, algorithm: Algorithm, finish: &Finish) -> bool;
    /// Whether a stored key may be had in plain at all.
    fn releases_keys(&self) -> bool {
        false
    }
}

/// A device that is the daemon itself: everything inside, nothing leaves.
pub struct Everything;

impl Capabilities for Everything {
    fn step(&self, _: Algorithm, _: &Step) -> Reach {
        Reach::Inside
    }

    fn finish(&self, _: Algorithm, _: &Finish) -> bool {
        true
    }
}

/// Where one path is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Steps whose key stays inside.
    pub inside: usize,
    /// Whether the next step is computed by the device and comes out.
    pub comes_out: bool,
}

/// Where a leg is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegCut {
    /// Of the leg's own path.
    pub path: Cut,
    /// Of the wrapping key's, or that of K''.
    pub other: Option<Cut>,
    /// Whether the finish runs inside; then both paths do.
    pub finished: bool,
}

/// The recipe cannot be run on the device, however much may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device can neither take leg {leg} further nor give up the key it stops at")]
pub struct Unsupported {
    /// Number of the leg.
    pub leg: usize,
}

/// Cuts every leg's paths.
///
/// # Errors
/// [`Unsupported`] for the first leg that stops at a key which the device does not release.
pub fn split(recipe: &Recipe, device: &dyn Capabilities) -> Result<Vec<LegCut>, Unsupported> {
    let cut_leg = |(number, leg): (usize, &Leg)| {
        let unsupported = Unsupported { leg: number };
        let (path, algorithm) = cut(&leg.path, device).ok_or(unsupported)?;
        let other = leg.finish.other_path().map(|other| cut(other, device).ok_or(unsupported)).transpose()?;
        let whole = |path: &KeyPath, cut: &Cut| cut.inside == path.steps.len();
        let both = whole(&leg.path, &path)
            && leg.finish.other_path().zip(other).is_none_or(|(path, (cut, _))| whole(path, &cut));
        let finished = both && device.finish(algorithm, &leg.finish);
        let other = other.map(|(cut, _)| cut);
        // A tail in the daemon needs every key that it works with: those that stayed inside must be had.
        let stays = std::iter::once(&path).chain(&other).any(|cut| !cut.comes_out);
        if finished || !stays || device.releases_keys() {
            Ok(LegCut { path, other, finished })
        } else {
            Err(unsupported)
        }
    };
    recipe.legs.iter().enumerate().map(cut_leg).collect()
}

/// For each key slot, the greatest secret that leaves under these cuts.
pub fn exposure(recipe: &Recipe, cuts: &[LegCut]) -> Vec<Exposure> {
    let mut slots = vec![Exposure::Nothing; recipe.slots()];
    for (leg, cut) in recipe.legs.iter().zip(cuts).filter(|(_, cut)| !cut.finished) {
        let paths = std::iter::once((&leg.path, cut.path)).chain(leg.finish.other_path().zip(cut.other));
        for (path, cut) in paths {
            slots[path.slot] = slots[path.slot].max(class_after(path, cut.inside + usize::from(cut.comes_out)));
        }
    }
    slots
}

/// What a key is worth after `taken` steps of its path.
pub fn class_after(path: &KeyPath, taken: usize) -> Exposure {
    let (done, left) = path.steps.split_at(taken.min(path.steps.len()));
    let disperses = |step: &Step| matches!(step, Step::Disperse { .. });
    if done.iter().any(|step| matches!(step, Step::Session { .. })) {
        Exposure::SessionKey
    } else if path.steps_left > 0 || left.iter().any(disperses) || done.is_empty() {
        Exposure::MasterKey
    } else {
        Exposure::CardKey
    }
}

/// How far one path goes, and the algorithm of the key it stops at.
fn cut(path: &KeyPath, device: &dyn Capabilities) -> Option<(Cut, Algorithm)> {
    let mut algorithm = path.algorithm;
    for (taken, step) in path.steps.iter().enumerate() {
        match device.step(algorithm, step) {
            Reach::Inside => algorithm = after(algorithm, step),
            Reach::ComesOut => return Some((Cut { inside: taken, comes_out: true }, algorithm)),
            Reach::Never => {
                return device.releases_keys().then_some((Cut { inside: taken, comes_out: false }, algorithm));
            }
        }
    }
    Some((Cut { inside: path.steps.len(), comes_out: false }, algorithm))
}

fn after(algorithm: Algorithm, step: &Step) -> Algorithm {
    use claviger_hsm_api::FoldRule;
    match step {
        Step::Session { .. } if algorithm.is_des() => Algorithm::Des,
        Step::FoldHalves { rule: FoldRule::SingleDes } => Algorithm::Des,
        _ => algorithm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_hsm_api::{DispersionRule, FoldRule, Input, KcvRule, Parity};

    /// A token that can only do ECB: it disperses, and what it makes comes out.
    struct EcbOnly;
    impl Capabilities for EcbOnly {
        fn step(&self, _: Algorithm, step: &Step) -> Reach {
            if matches!(step, Step::FoldHalves { .. }) { Reach::Never } else { Reach::ComesOut }
        }
        fn finish(&self, _: Algorithm, _: &Finish) -> bool {
            false
        }
    }

    /// A token that derives objects but has no fold and no MAC.
    struct Derives;
    impl Capabilities for Derives {
        fn step(&self, _: Algorithm, step: &Step) -> Reach {
            if matches!(step, Step::FoldHalves { .. }) { Reach::Never } else { Reach::Inside }
        }
        fn finish(&self, _: Algorithm, _: &Finish) -> bool {
            false
        }
        fn releases_keys(&self) -> bool {
            true
        }
    }

    fn tac(levels: usize) -> Recipe {
        let disperse = Step::Disperse {
            rule: DispersionRule::FactorAndComplement,
            parity: Parity::AsComputed,
            factor: Input::Column(0),
        };
        let mut steps = vec![disperse; levels];
        steps.push(Step::FoldHalves { rule: FoldRule::SingleDes });
        Recipe::single(
            KeyPath { slot: 0, algorithm: Algorithm::TripleDes, steps, steps_left: 0 },
            Finish::Kcv { rule: KcvRule::ZEROS },
        )
    }

    fn exposure_on(recipe: &Recipe, device: &dyn Capabilities) -> Result<Vec<Exposure>, Unsupported> {
        split(recipe, device).map(|cuts| exposure(recipe, &cuts))
    }

    #[test]
    fn the_daemon_itself_exposes_nothing() {
        assert_eq!(exposure_on(&tac(2), &Everything), Ok(vec![Exposure::Nothing]));
    }

    #[test]
    fn an_ecb_token_gives_out_the_first_child() {
        assert_eq!(exposure_on(&tac(1), &EcbOnly), Ok(vec![Exposure::CardKey]));
        assert_eq!(exposure_on(&tac(2), &EcbOnly), Ok(vec![Exposure::MasterKey]), "a city's key is a master key");
    }

    #[test]
    fn a_deriving_token_gives_out_the_card_key_only() {
        assert_eq!(exposure_on(&tac(3), &Derives), Ok(vec![Exposure::CardKey]));
    }

    #[test]
    fn a_stored_key_that_cannot_leave_is_no_exposure_but_a_refusal() {
        let bare = tac(0);
        assert_eq!(exposure_on(&bare, &EcbOnly), Err(Unsupported { leg: 0 }));
        assert_eq!(exposure_on(&bare, &Derives), Ok(vec![Exposure::MasterKey]));
    }

    #[test]
    fn the_wrapping_key_counts_as_well() {
        let master = tac(1).legs.remove(0).path;
        let under = KeyPath { slot: 1, ..master.clone() };
        let format = claviger_hsm_api::WrapFormat::Ecb {
            prefix: claviger_hsm_api::Message(Vec::new()),
            padding: claviger_hsm_api::Padding::OneIfNeeded,
        };
        let path = KeyPath { steps: master.steps[..1].to_vec(), ..master };
        let recipe =
            Recipe::single(path, Finish::Wrap { under: KeyPath { steps: under.steps[..1].to_vec(), ..under }, format });
        assert_eq!(exposure_on(&recipe, &EcbOnly), Ok(vec![Exposure::CardKey, Exposure::CardKey]));
    }

    #[test]
    fn a_path_that_ends_above_the_card_gives_out_a_master_key() {
        let mut recipe = tac(1);
        recipe.legs[0].path.steps.truncate(1);
        recipe.legs[0].path.steps_left = 1;
        assert_eq!(exposure_on(&recipe, &EcbOnly), Ok(vec![Exposure::MasterKey]));
    }
}
