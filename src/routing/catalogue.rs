//! The recipes of the operation catalogue, in the shape that the shipped schemes give them: what a report says about a
//! backend, it says about these.

use claviger_hsm_api::{
    Algorithm, CipherMode, DispersionRule, Exportability, Exposure, Finish, FoldRule, HsmDriver, Input, KcvRule,
    KeyAttributes, KeyName, KeyPath, KeyRank, KeyState, KeyVersion, Leg, MacAlgorithm, MacSpec, Message, ModeOfUse,
    NewKey, Padding, Parity, Recipe, Step, Truncation, When, WrapFormat,
};

/// What a backend can do with one recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachable {
    /// The least that leaves it.
    Leaves(Exposure),
    /// It cannot run it, however much may leave.
    Impossible,
}

impl Reachable {
    /// The one spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leaves(exposure) => exposure.as_str(),
            Self::Impossible => "impossible",
        }
    }
}

/// A recipe by its name: the operation, and the algorithm of its keys.
pub(super) struct Named {
    /// As `verify_transactions.3des`.
    pub(super) name: String,
    /// What is run.
    pub(super) recipe: Recipe,
}

/// What of the recipe leaves a backend at least; nothing is known of a backend that does not answer.
///
/// # Errors
/// The driver's, if it is not that the recipe is impossible.
pub(super) fn reachable(driver: &dyn HsmDriver, recipe: &Recipe) -> Result<Reachable, claviger_hsm_api::DriverError> {
    match driver.exposure(recipe, &vec![Exposure::Nothing; recipe.slots()]) {
        Ok(exposure) => Ok(Reachable::Leaves(exposure.into_iter().max().unwrap_or(Exposure::Nothing))),
        Err(error) if error.fault == claviger_hsm_api::Fault::Unsupported => Ok(Reachable::Impossible),
        Err(error) => Err(error),
    }
}

/// Every operation that keys take part in, for the algorithms of card schemes and then for generic keys.
pub(super) fn catalogue() -> Vec<Named> {
    let of_cards = [Algorithm::TripleDes, Algorithm::Aes128, Algorithm::Sm4].into_iter().flat_map(of_cards);
    of_cards
        .chain(generic())
        .map(|(name, algorithm, recipe)| Named { name: format!("{name}.{algorithm}"), recipe })
        .collect()
}

type Unnamed = (&'static str, Algorithm, Recipe);

fn path(slot: usize, algorithm: Algorithm, steps: Vec<Step>) -> KeyPath {
    KeyPath { slot, algorithm, steps, steps_left: 0 }
}

fn disperse() -> Step {
    let rule = DispersionRule::FactorAndComplement;
    Step::Disperse { rule, parity: Parity::AsComputed, factor: Input::Column(0) }
}

fn spec(algorithm: MacAlgorithm, initial: Option<Input>) -> MacSpec {
    MacSpec { algorithm, second: None, padding: Padding::One, initial, truncation: Truncation::Left(4) }
}

fn mac(algorithm: MacAlgorithm) -> Finish {
    Finish::Mac { spec: spec(algorithm, None), message: Message::column(1) }
}

fn verify(algorithm: MacAlgorithm) -> Finish {
    Finish::VerifyMac { spec: spec(algorithm, None), message: Message::column(1), expected: Input::Column(2) }
}

fn encrypt(mode: CipherMode) -> Finish {
    Finish::Encrypt { mode, padding: Padding::OneIfNeeded, data: Message::column(1) }
}

fn wrap(algorithm: Algorithm, steps: Vec<Step>, prefix: Vec<Input>) -> Finish {
    let format = WrapFormat::Ecb { prefix: Message(prefix), padding: Padding::OneIfNeeded };
    Finish::Wrap { under: path(1, algorithm, steps), format }
}

/// Under keys that are one dispersion above a card.
fn of_cards(algorithm: Algorithm) -> Vec<Unnamed> {
    let card = || path(0, algorithm, vec![disperse()]);
    let session = || path(0, algorithm, vec![disperse(), Step::Session { input: Input::Column(3) }]);
    let cbc_mac = MacAlgorithm::CbcMac;
    // The TAC of 3DES cards is made under the halves of the card's key, XORed.
    let tac = if algorithm.is_des() {
        path(0, algorithm, vec![disperse(), Step::FoldHalves { rule: FoldRule::SingleDes }])
    } else {
        card()
    };
    let command_mac = if algorithm.is_des() { MacAlgorithm::Retail } else { cbc_mac };
    let leg = |path, finish, when| Leg { path, finish, when };
    let authorise = Recipe {
        legs: vec![leg(session(), verify(cbc_mac), When::Always), leg(session(), mac(cbc_mac), When::AfterValid(0))],
    };
    let write = Recipe {
        legs: vec![
            leg(card(), wrap(algorithm, vec![disperse()], vec![Input::Column(4)]), When::Always),
            Leg {
                path: path(1, algorithm, vec![disperse()]),
                finish: Finish::Mac {
                    spec: spec(command_mac, Some(Input::Column(5))),
                    message: Message(vec![Input::Output(0)]),
                },
                when: When::Always,
            },
        ],
    };
    let single = Recipe::single;
    let mut recipes = vec![
        ("verify_transactions", algorithm, single(tac, verify(cbc_mac))),
        ("authorise_purse", algorithm, authorise),
        ("verify_purse", algorithm, single(session(), verify(cbc_mac))),
        ("psam_debit", algorithm, single(session(), mac(cbc_mac))),
        ("card_command", algorithm, single(card(), mac(command_mac))),
        ("authenticate_card", algorithm, single(card(), encrypt(CipherMode::Ecb))),
        ("write_key", algorithm, write),
        ("personalise_cards", algorithm, single(card(), wrap(algorithm, Vec::new(), Vec::new()))),
    ];
    if let Some(child) = child(algorithm) {
        recipes.push(("disperse_key", algorithm, single(card(), Finish::Store { child: Box::new(child) })));
    }
    recipes
}

fn child(algorithm: Algorithm) -> Option<NewKey> {
    let attributes = KeyAttributes {
        algorithm,
        usage: "10".parse().ok()?,
        mode: ModeOfUse::Any,
        exportability: Exportability::None,
        rank: KeyRank::Card,
        ceiling: Exposure::Nothing,
    };
    Some(NewKey {
        id: String::new(),
        name: KeyName::new("report", "report", "REPORT").ok()?,
        version: KeyVersion(1),
        factors: Vec::new(),
        attributes,
        state: KeyState::Active,
        kcv_rule: KcvRule::ZEROS,
    })
}

/// Under keys of no scheme.
fn generic() -> Vec<Unnamed> {
    let ciphers = [Algorithm::TripleDes, Algorithm::Aes128, Algorithm::Aes256, Algorithm::Sm4];
    let mut recipes = Vec::new();
    for algorithm in ciphers {
        let of = |name, finish| (name, algorithm, Recipe::single(path(0, algorithm, Vec::new()), finish));
        let cbc = || CipherMode::Cbc { initial: Input::Column(2) };
        recipes.extend([
            of("generate_mac", mac(MacAlgorithm::CbcMac)),
            of("verify_mac", verify(MacAlgorithm::CbcMac)),
            of("generate_cmac", mac(MacAlgorithm::Cmac)),
            of("verify_cmac", verify(MacAlgorithm::Cmac)),
            of("encrypt", encrypt(cbc())),
            of("decrypt", Finish::Decrypt { mode: cbc(), data: Message::column(1) }),
            of("compute_kcv", Finish::Kcv { rule: KcvRule::ZEROS }),
        ]);
    }
    for algorithm in [Algorithm::HmacSha256, Algorithm::HmacSm3] {
        let of = |name, finish| (name, algorithm, Recipe::single(path(0, algorithm, Vec::new()), finish));
        recipes.extend([of("generate_mac", mac(MacAlgorithm::Hmac)), of("verify_mac", verify(MacAlgorithm::Hmac))]);
    }
    let signer_id = || "1234567812345678".to_owned();
    let sm2 = || path(0, Algorithm::Sm2, Vec::new());
    let sign = Finish::Sign { signer_id: signer_id(), message: Message::column(1) };
    let message = Message::column(1);
    let verify = Finish::VerifySignature { signer_id: signer_id(), message, signature: Input::Column(2) };
    recipes.push(("sign", Algorithm::Sm2, Recipe::single(sm2(), sign)));
    recipes.push(("verify_signature", Algorithm::Sm2, Recipe::single(sm2(), verify)));
    recipes
}
