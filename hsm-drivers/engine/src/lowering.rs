//! How far a device takes a recipe, and what must leave it for the rest.
//!
//! One function, [`split`], cuts every key path where the device's proven capabilities, or the quickest way that the
//! keys' ceilings allow, end. Both the exposure that a driver states and the work that it does come from that one cut,
//! so they cannot disagree.

use claviger_hsm_api::{Algorithm, Exposure, Finish, FoldRule, KeyPath, Leg, Recipe, Step, WrapFormat};

/// What a device was proved to do with one derivation step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// The derived key can stay inside, as an object of its own.
    pub inside: bool,
    /// The device can compute it (by ECB over the factors, say) so that it comes out.
    pub comes_out: bool,
}

/// The key at the end of a path.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// What it is a key of.
    pub algorithm: Algorithm,
    /// The step that made it; none for a stored key.
    pub last: Option<&'a Step>,
}

/// The proven capabilities of a device.
pub trait Capabilities {
    /// How a step from a key of `algorithm` can be taken.
    fn step(&self, algorithm: Algorithm, step: &Step) -> Reach;
    /// Whether a finish can be run inside on a key, and on the one at the end of the finish's own path.
    fn finish(&self, end: End<'_>, other: Option<End<'_>>, finish: &Finish) -> bool;
    /// Whether a key of `algorithm` enciphers blocks that the engine hands it.
    fn enciphers(&self, algorithm: Algorithm) -> bool;
}

/// Where one path is cut: the number of the step whose key comes out; none if the whole path stays inside.
pub type Cut = Option<usize>;

/// Where a leg's finish runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    /// In the device, on keys that stay there.
    Inside,
    /// In the engine, on keys that came out.
    InEngine,
    /// A wrapping: the engine lays out the key that came out, the device enciphers it under one that stays.
    Enciphered,
}

/// Where a leg is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegCut {
    /// Of the leg's own path.
    pub path: Cut,
    /// Of the wrapping key's, or that of K''.
    pub other: Option<Cut>,
    /// Where the finish runs.
    pub runs: Runs,
}

/// The recipe cannot be run on the device, however much may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the device can neither take leg {leg} to its end nor give out a key that it can be finished with")]
pub struct Unsupported {
    /// Number of the leg.
    pub leg: usize,
}

/// Cuts every leg's paths: by the way that is quickest for the device (a key comes out early, many in one call) if
/// the slots' `ceilings` allow it, otherwise by the one that lets out least.
///
/// # Errors
/// [`Unsupported`] for the first leg that has no way.
pub fn split(recipe: &Recipe, device: &dyn Capabilities, ceilings: &[Exposure]) -> Result<Vec<LegCut>, Unsupported> {
    let cut_leg = |(leg, of): (usize, &Leg)| {
        let ways = [quick(of, device, ceilings), inside(of, device), least(of, device)];
        ways.into_iter().flatten().next().ok_or(Unsupported { leg })
    };
    recipe.legs.iter().enumerate().map(cut_leg).collect()
}

/// For each key slot, the greatest secret that leaves under these cuts.
pub fn exposure(recipe: &Recipe, cuts: &[LegCut]) -> Vec<Exposure> {
    let mut slots = vec![Exposure::Nothing; recipe.slots()];
    for (leg, cut) in recipe.legs.iter().zip(cuts) {
        let paths = std::iter::once((&leg.path, cut.path)).chain(leg.finish.other_path().zip(cut.other));
        for (path, cut) in paths {
            if let Some(step) = cut {
                slots[path.slot] = slots[path.slot].max(class_after(path, step + 1));
            }
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

/// What a key is a key of after some steps down.
pub fn algorithm_after(of: Algorithm, steps: &[Step]) -> Algorithm {
    steps.iter().fold(of, |algorithm, step| match step {
        Step::Session { .. } if algorithm.is_des() => Algorithm::Des,
        Step::FoldHalves { rule: FoldRule::SingleDes } => Algorithm::Des,
        _ => algorithm,
    })
}

/// Keys come out as early as the ceilings allow.
fn quick(leg: &Leg, device: &dyn Capabilities, ceilings: &[Exposure]) -> Option<LegCut> {
    outside(leg, device, &|path, device| {
        let ceiling = ceilings.get(path.slot).copied().unwrap_or(Exposure::Nothing);
        places(path, device).find(|step| class_after(path, step + 1) <= ceiling)
    })
}

/// Keys come out as late as they can.
fn least(leg: &Leg, device: &dyn Capabilities) -> Option<LegCut> {
    outside(leg, device, &|path, device| places(path, device).last())
}

/// Nothing comes out.
fn inside(leg: &Leg, device: &dyn Capabilities) -> Option<LegCut> {
    let end = whole(&leg.path, device)?;
    let other = match leg.finish.other_path() {
        Some(path) => Some(whole(path, device)?),
        None => None,
    };
    let cut = LegCut { path: None, other: other.map(|_| None), runs: Runs::Inside };
    device.finish(end, other, &leg.finish).then_some(cut)
}

/// Where one path is to be cut, if it can be.
type Place<'a> = &'a dyn Fn(&KeyPath, &dyn Capabilities) -> Option<usize>;

fn outside(leg: &Leg, device: &dyn Capabilities, place: Place<'_>) -> Option<LegCut> {
    // What is kept as a stored key never comes out on its way.
    if matches!(leg.finish, Finish::Store { .. }) {
        return None;
    }
    let path = Some(place(&leg.path, device)?);
    let Some(under) = leg.finish.other_path() else {
        return Some(LegCut { path, other: None, runs: Runs::InEngine });
    };
    let by_device = matches!(leg.finish, Finish::Wrap { format: WrapFormat::Ecb { .. }, .. })
        && whole(under, device).is_some_and(|end| device.enciphers(end.algorithm));
    if by_device {
        return Some(LegCut { path, other: Some(None), runs: Runs::Enciphered });
    }
    Some(LegCut { path, other: Some(Some(place(under, device)?)), runs: Runs::InEngine })
}

/// The steps at which a path can be cut, first to last.
fn places<'a>(path: &'a KeyPath, device: &'a dyn Capabilities) -> impl Iterator<Item = usize> + 'a {
    let reach = |step: usize| device.step(algorithm_after(path.algorithm, &path.steps[..step]), &path.steps[step]);
    let inside = (0..path.steps.len()).take_while(move |step| reach(*step).inside).count();
    (0..path.steps.len().min(inside + 1)).filter(move |step| reach(*step).comes_out)
}

/// The end of a path that stays inside.
fn whole<'a>(path: &'a KeyPath, device: &dyn Capabilities) -> Option<End<'a>> {
    let inside = |(number, step): (usize, &Step)| {
        device.step(algorithm_after(path.algorithm, &path.steps[..number]), step).inside
    };
    let all = path.steps.iter().enumerate().all(inside);
    all.then(|| End { algorithm: algorithm_after(path.algorithm, &path.steps), last: path.steps.last() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_hsm_api::{DispersionRule, Input, KcvRule, Message, Padding, Parity};

    /// A token that can do what it is told to; it never folds.
    struct Token {
        derives: bool,
        enciphers: bool,
        finishes: bool,
    }

    impl Capabilities for Token {
        fn step(&self, _: Algorithm, step: &Step) -> Reach {
            let known = !matches!(step, Step::FoldHalves { .. });
            Reach { inside: known && self.derives, comes_out: known && self.enciphers }
        }
        fn finish(&self, _: End<'_>, _: Option<End<'_>>, _: &Finish) -> bool {
            self.finishes
        }
        fn enciphers(&self, _: Algorithm) -> bool {
            self.enciphers
        }
    }

    const EVERYTHING: Token = Token { derives: true, enciphers: true, finishes: true };
    const ECB_ONLY: Token = Token { derives: false, enciphers: true, finishes: false };
    const DERIVES: Token = Token { derives: true, enciphers: false, finishes: true };

    fn disperse() -> Step {
        let rule = DispersionRule::FactorAndComplement;
        Step::Disperse { rule, parity: Parity::AsComputed, factor: Input::Column(0) }
    }

    fn recipe(levels: usize, last: Option<Step>) -> Recipe {
        let steps = std::iter::repeat_n(disperse(), levels).chain(last).collect();
        let path = KeyPath { slot: 0, algorithm: Algorithm::TripleDes, steps, steps_left: 0 };
        Recipe::single(path, Finish::Kcv { rule: KcvRule::ZEROS })
    }

    fn tac(levels: usize) -> Recipe {
        recipe(levels, Some(Step::FoldHalves { rule: FoldRule::SingleDes }))
    }

    fn session(levels: usize) -> Recipe {
        recipe(levels, Some(Step::Session { input: Input::Column(1) }))
    }

    fn exposed(recipe: &Recipe, device: &Token, ceiling: Exposure) -> Result<Vec<Exposure>, Unsupported> {
        split(recipe, device, &[ceiling, ceiling]).map(|cuts| exposure(recipe, &cuts))
    }

    #[test]
    fn the_quick_way_is_taken_only_under_the_ceiling() {
        use Exposure::{CardKey, MasterKey, Nothing, SessionKey};
        for (ceiling, wanted) in
            [(MasterKey, MasterKey), (CardKey, CardKey), (SessionKey, SessionKey), (Nothing, Nothing)]
        {
            assert_eq!(exposed(&session(2), &EVERYTHING, ceiling), Ok(vec![wanted]), "{ceiling}");
        }
    }

    #[test]
    fn an_ecb_token_gives_out_the_first_child() {
        assert_eq!(exposed(&tac(1), &ECB_ONLY, Exposure::Nothing), Ok(vec![Exposure::CardKey]));
        let found = exposed(&tac(2), &ECB_ONLY, Exposure::CardKey);
        assert_eq!(found, Ok(vec![Exposure::MasterKey]), "a city's key is a master key");
    }

    #[test]
    fn a_token_that_only_derives_cannot_fold_and_gives_nothing_out() {
        assert_eq!(exposed(&tac(3), &DERIVES, Exposure::MasterKey), Err(Unsupported { leg: 0 }));
        assert_eq!(exposed(&session(3), &DERIVES, Exposure::MasterKey), Ok(vec![Exposure::Nothing]));
    }

    #[test]
    fn a_folded_key_is_a_card_key_of_what_came_out_before() {
        assert_eq!(exposed(&tac(3), &EVERYTHING, Exposure::Nothing), Ok(vec![Exposure::CardKey]));
    }

    #[test]
    fn a_stored_key_does_not_come_out() {
        assert_eq!(exposed(&tac(0), &EVERYTHING, Exposure::MasterKey), Err(Unsupported { leg: 0 }));
    }

    #[test]
    fn the_wrapping_key_counts_as_well() {
        let path = recipe(1, None).legs.remove(0).path;
        let under = KeyPath { slot: 1, ..path.clone() };
        let format = WrapFormat::Ecb { prefix: Message(Vec::new()), padding: Padding::OneIfNeeded };
        let both = Recipe::single(path.clone(), Finish::Wrap { under, format: format.clone() });
        assert_eq!(exposed(&both, &ECB_ONLY, Exposure::Nothing), Ok(vec![Exposure::CardKey, Exposure::CardKey]));
        let stored = KeyPath { slot: 1, algorithm: Algorithm::TripleDes, steps: Vec::new(), steps_left: 0 };
        let recipe = Recipe::single(path, Finish::Wrap { under: stored, format });
        let found = exposed(&recipe, &ECB_ONLY, Exposure::Nothing);
        assert_eq!(found, Ok(vec![Exposure::CardKey, Exposure::Nothing]), "the device enciphers under what it keeps");
    }

    #[test]
    fn a_path_that_ends_above_the_card_gives_out_a_master_key() {
        let mut recipe = recipe(1, None);
        recipe.legs[0].path.steps_left = 1;
        assert_eq!(exposed(&recipe, &ECB_ONLY, Exposure::Nothing), Ok(vec![Exposure::MasterKey]));
    }
}
