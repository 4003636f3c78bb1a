//! Card commands under secure messaging: PBOC secure messaging as FMCOS and transit cards run it.
//!
//! A MAC covers `CLA INS P1 P2 Lc data`, where Lc counts the MAC as well, and is chained from the card's
//! challenge. What is enciphered is `LD || data`, padded only where it must be.

use claviger_hsm_api::{
    Algorithm, Batch, CipherMode, Column, Finish, FoldRule, Input, KeyPath, Leg, MacAlgorithm, MacSpec, Message,
    Outcome, Padding, Recipe, Step, Truncation, When, WrapFormat,
};

use crate::fields::FieldSet;
use crate::profile::{CipherRules, CommandData, CommandRules, Cryptogram, Protection, RoleFinish};
use crate::request_error::RequestError;
use crate::role::{CardKey, Role};
use crate::scheme::CardScheme;

/// Bytes of a command's MAC.
const MAC: usize = 4;

/// A command as it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct CommandRequest<'a> {
    /// As the scheme names it.
    pub command: &'a str,
    /// P1 P2, where the command leaves them to the caller.
    pub parameters: Option<[u8; 2]>,
    /// What the card gave for GET CHALLENGE.
    pub challenge: &'a [u8],
    /// What the command carries, in plain: a file's bytes, or the digits of a PIN.
    pub data: &'a [u8],
}

/// A recipe, its batch of one row, and how its outcome becomes an APDU.
pub struct PreparedCommand {
    /// What is run.
    pub recipe: Recipe,
    /// Over what.
    pub batch: Batch,
    /// How the outcome becomes an APDU.
    pub shape: ApduShape,
}

/// Where the parts of an APDU come from.
pub struct ApduShape {
    /// CLA INS P1 P2 Lc.
    header: Vec<u8>,
    /// Data in plain.
    plain: Vec<u8>,
    /// Legs whose output follows, in order.
    legs: Vec<usize>,
}

impl ApduShape {
    /// The whole APDU, `CLA INS P1 P2 Lc data`; `None` if a leg did not run.
    pub fn apdu(&self, outcome: &Outcome) -> Option<Vec<u8>> {
        let mut apdu = [&self.header[..], &self.plain].concat();
        for leg in &self.legs {
            apdu.extend_from_slice(outcome.bytes(*leg, 0)?);
        }
        Some(apdu)
    }
}

impl CardScheme {
    /// The role whose key protects a command.
    ///
    /// # Errors
    /// If the scheme has no such command.
    pub fn command_role(&self, command: &str) -> Result<Role<'_>, RequestError> {
        Ok(self.role(&self.command_rules(command)?.role)?)
    }

    /// Names of the commands and what they are for.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &str)> {
        self.profile().commands.iter().map(|command| (command.name.as_str(), command.title.as_str()))
    }

    /// The role that answers internal authentication, if the scheme has it.
    ///
    /// # Errors
    /// If it has not.
    pub fn authentication_role(&self) -> Result<Role<'_>, RequestError> {
        let rules = self.profile().internal_authentication.as_ref();
        Ok(self.role(&rules.ok_or_else(|| self.unknown("command", "internal-authentication"))?.role)?)
    }

    /// The roles whose keys may protect WRITE KEY.
    pub fn write_key_protectors(&self) -> impl Iterator<Item = &str> {
        self.profile().write_key.iter().flat_map(|rules| &rules.protectors).map(String::as_str)
    }

    fn command_rules(&self, command: &str) -> Result<&CommandRules, RequestError> {
        let found = self.profile().commands.iter().find(|rules| rules.name == command);
        Ok(found.ok_or_else(|| self.unknown("command", command))?)
    }

    /// A command under a key with `held` levels in it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn command(
        &self,
        request: CommandRequest<'_>,
        algorithm: Algorithm,
        held: usize,
        fields: &FieldSet,
    ) -> Result<PreparedCommand, RequestError> {
        let command = self.command_rules(request.command)?;
        let role = self.role(&command.role)?;
        let rules = self.cipher(algorithm).ok_or_else(|| self.no_algorithm(&role, algorithm))?;
        let key = role.key(algorithm, held);
        let draft = Draft {
            header: header(command, request.parameters)?,
            path: self.path(0, key, |level| level),
            columns: self.factor_columns(&[key], fields).map_err(RequestError::Missing)?,
            keys: 1,
        };
        role.admit(RoleFinish::Mac)?;
        check_data(command.data, request.data)?;
        match command.protection {
            Protection::Mac => draft.with_mac(request.data, initial(rules, algorithm, request.challenge)?),
            Protection::EncryptAndMac => {
                role.admit(RoleFinish::Encrypt)?;
                let padding = rules.encryption_padding.rule();
                draft.enciphered(request.data, initial(rules, algorithm, request.challenge)?, padding)
            }
            Protection::DataMac => draft.with_data_mac(request.data, rules.pin_reload_key.fold()),
            Protection::Cryptogram => {
                let answer = authentication(rules, algorithm, request.challenge)?;
                draft.with_cryptogram(answer)
            }
        }
    }

    /// WRITE KEY: the new key of `role` leaves under the protector, and only there.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn write_key(
        &self,
        (role, new): (&Role<'_>, CardKey<'_>),
        (protector_role, protector): (&Role<'_>, CardKey<'_>),
        challenge: &[u8],
        fields: &FieldSet,
    ) -> Result<PreparedCommand, RequestError> {
        let write_key = self.profile().write_key.as_ref().ok_or_else(|| self.unknown("command", "write-key"))?;
        if !write_key.protectors.iter().any(|name| name == protector_role.name()) {
            return Err(RequestError::wrong("protector", format!("is one of {}", write_key.protectors.join(", "))));
        }
        role.admit(RoleFinish::Wrap)?;
        protector_role.admit(RoleFinish::WrapOthers)?;
        protector_role.admit(RoleFinish::Mac)?;
        let layout = write_key.headers.get(&new.algorithm).and_then(|of_role| of_role.get(role.name()));
        let layout = layout.ok_or_else(|| RequestError::wrong("role", "has no WRITE KEY header in this scheme"))?;
        let rules = self.cipher(protector.algorithm).ok_or_else(|| self.no_algorithm(role, protector.algorithm))?;
        let start = initial(rules, protector.algorithm, challenge)?;
        let key_header = self.assemble(&layout.header, fields)?;
        let header = [decoded(&write_key.instruction), decoded(&layout.p1p2)].concat();
        let draft = Draft {
            header,
            path: self.path(1, protector, |level| level),
            columns: self.factor_columns(&[new, protector], fields).map_err(RequestError::Missing)?,
            keys: 2,
        };
        let key = (self.path(0, new, |level| level), new.algorithm.key_len());
        draft.wrapping(key, &key_header, start, rules.encryption_padding.rule())
    }

    /// Verifies a card's answer to a challenge of ours under a key with `held` levels in it.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn internal_authentication(
        &self,
        challenge: &[u8],
        answer: &[u8],
        algorithm: Algorithm,
        held: usize,
        fields: &FieldSet,
    ) -> Result<(Recipe, Batch), RequestError> {
        let role = self.authentication_role()?;
        role.admit(RoleFinish::VerifyMac)?;
        let rules = self.cipher(algorithm).ok_or_else(|| self.no_algorithm(&role, algorithm))?;
        let key = role.key(algorithm, held);
        let mut columns = self.factor_columns(&[key], fields).map_err(RequestError::Missing)?;
        let (challenge, spec) = authentication(rules, algorithm, challenge)?;
        if answer.len() != spec.truncation.len() {
            let digits = 2 * spec.truncation.len();
            return Err(RequestError::wrong("answer", format!("must have {digits} hexadecimal digits")));
        }
        let message = Message::column(columns.len());
        columns.push(Column::one(challenge));
        columns.push(Column::one(answer));
        let expected = Input::Column(columns.len() - 1);
        let finish = Finish::VerifyMac { spec, message, expected };
        Ok((Recipe::single(self.path(0, key, |level| level), finish), Batch::one(columns, 1)))
    }
}

/// A command being built: columns so far, and the path of the key that protects it.
struct Draft {
    /// CLA INS P1 P2.
    header: Vec<u8>,
    path: KeyPath,
    columns: Vec<Column>,
    keys: u16,
}

impl Draft {
    fn column(&mut self, bytes: impl Into<Vec<u8>>) -> Input {
        self.columns.push(Column::one(bytes));
        Input::Column(self.columns.len() - 1)
    }

    /// CLA INS P1 P2 Lc, where the command carries `len` bytes in all.
    fn header(&self, len: usize) -> Result<Vec<u8>, RequestError> {
        let lc = u8::try_from(len).map_err(|_| RequestError::wrong("data", "is more than one command can carry"))?;
        Ok([&self.header[..], &[lc]].concat())
    }

    fn finished(self, legs: Vec<Leg>, header: Vec<u8>, plain: Vec<u8>) -> PreparedCommand {
        let shape = ApduShape { header, plain, legs: (0..legs.len()).collect() };
        PreparedCommand { recipe: Recipe { legs }, batch: Batch::one(self.columns, self.keys), shape }
    }

    fn leg(&self, finish: Finish) -> Leg {
        Leg { path: self.path.clone(), finish, when: When::Always }
    }

    fn with_mac(mut self, data: &[u8], start: Vec<u8>) -> Result<PreparedCommand, RequestError> {
        let header = self.header(data.len() + MAC)?;
        let message = Message(vec![self.column([&header[..], data].concat())]);
        let spec = command_mac(self.path.algorithm, Some(self.column(start)));
        let leg = self.leg(Finish::Mac { spec, message });
        Ok(self.finished(vec![leg], header, data.to_vec()))
    }

    fn enciphered(mut self, data: &[u8], start: Vec<u8>, padding: Padding) -> Result<PreparedCommand, RequestError> {
        let text = [&[data.len() as u8], data].concat();
        let header = self.header(padded(text.len(), padding, self.path.algorithm) + MAC)?;
        let text = Message(vec![self.column(text)]);
        let encrypt = Finish::Encrypt { mode: CipherMode::Ecb, padding, data: text };
        let legs = vec![self.leg(encrypt), self.mac_of_first(&header, start)];
        Ok(self.finished(legs, header, Vec::new()))
    }

    fn wrapping(
        mut self,
        (new, key_len): (KeyPath, usize),
        key_header: &[u8],
        start: Vec<u8>,
        padding: Padding,
    ) -> Result<PreparedCommand, RequestError> {
        let len = key_header.len() + key_len;
        let header = self.header(padded(1 + len, padding, self.path.algorithm) + MAC)?;
        let prefix = Message(vec![self.column([&[len as u8], key_header].concat())]);
        let wrap = Finish::Wrap { under: self.path.clone(), format: WrapFormat::Ecb { prefix, padding } };
        let legs = vec![Leg { path: new, finish: wrap, when: When::Always }, self.mac_of_first(&header, start)];
        Ok(self.finished(legs, header, Vec::new()))
    }

    /// The MAC over header and what the first leg puts out.
    fn mac_of_first(&mut self, header: &[u8], start: Vec<u8>) -> Leg {
        let message = Message(vec![self.column(header), Input::Output(0)]);
        let spec = command_mac(self.path.algorithm, Some(self.column(start)));
        self.leg(Finish::Mac { spec, message })
    }

    fn with_data_mac(mut self, data: &[u8], fold: Option<FoldRule>) -> Result<PreparedCommand, RequestError> {
        let header = self.header(data.len() + MAC)?;
        let message = Message(vec![self.column(data)]);
        self.path.steps.extend(fold.map(|rule| Step::FoldHalves { rule }));
        let folded = if fold == Some(FoldRule::SingleDes) { Algorithm::Des } else { self.path.algorithm };
        let leg = self.leg(Finish::Mac { spec: command_mac(folded, None), message });
        Ok(self.finished(vec![leg], header, data.to_vec()))
    }

    fn with_cryptogram(mut self, (challenge, spec): (Vec<u8>, MacSpec)) -> Result<PreparedCommand, RequestError> {
        let header = self.header(spec.truncation.len())?;
        let message = Message(vec![self.column(challenge)]);
        let leg = self.leg(Finish::Mac { spec, message });
        Ok(self.finished(vec![leg], header, Vec::new()))
    }
}

/// Retail MAC under a 16-byte DES key, CBC-MAC under all others (PBOC: an 8-byte key is single DES).
fn command_mac(algorithm: Algorithm, initial: Option<Input>) -> MacSpec {
    let algorithm = if algorithm == Algorithm::TripleDes { MacAlgorithm::Retail } else { MacAlgorithm::CbcMac };
    MacSpec { algorithm, second: None, padding: Padding::One, initial, truncation: Truncation::Left(MAC) }
}

fn header(command: &CommandRules, parameters: Option<[u8; 2]>) -> Result<Vec<u8>, RequestError> {
    let mut header = decoded(&command.header);
    match (header.len(), parameters) {
        (2, Some(given)) => header.extend_from_slice(&given),
        (2, None) => return Err(RequestError::wrong("p1p2", "is missing")),
        (_, Some(_)) => return Err(RequestError::wrong("p1p2", "is fixed for this command")),
        (_, None) => {}
    }
    Ok(header)
}

fn check_data(kind: CommandData, data: &[u8]) -> Result<(), RequestError> {
    let digits = |byte: &u8| byte >> 4 <= 9 && byte & 15 <= 9;
    let reason = match kind {
        CommandData::None | CommandData::Cryptogram if data.is_empty() => return Ok(()),
        CommandData::Bytes if !data.is_empty() => return Ok(()),
        CommandData::Pin if (2..=6).contains(&data.len()) && data.iter().all(digits) => return Ok(()),
        CommandData::None | CommandData::Cryptogram => "must be empty for this command",
        CommandData::Bytes => "is missing",
        CommandData::Pin => "must be a PIN of 4 to 12 decimal digits, an even number of them",
    };
    Err(RequestError::wrong("data", reason))
}

/// The challenge at the left of a block of zeros.
fn initial(rules: &CipherRules, algorithm: Algorithm, challenge: &[u8]) -> Result<Vec<u8>, RequestError> {
    filled(&rules.challenge, algorithm, challenge)
}

/// What is enciphered of a challenge, and what is kept of the result: a MAC of exactly one block.
fn authentication(
    rules: &CipherRules,
    algorithm: Algorithm,
    challenge: &[u8],
) -> Result<(Vec<u8>, MacSpec), RequestError> {
    let block = filled(&rules.authentication_challenge, algorithm, challenge)?;
    let truncation = match rules.cryptogram {
        Cryptogram::Whole => Truncation::Left(block.len()),
        Cryptogram::Fold8 => Truncation::FoldLeft(8),
    };
    let algorithm = MacAlgorithm::CbcMac;
    Ok((block, MacSpec { algorithm, second: None, padding: Padding::None, initial: None, truncation }))
}

fn filled(lengths: &[usize], algorithm: Algorithm, challenge: &[u8]) -> Result<Vec<u8>, RequestError> {
    let block = algorithm.block_len().unwrap_or(8);
    if challenge.len() > block || !lengths.contains(&challenge.len()) {
        let lengths: Vec<String> = lengths.iter().map(|len| (2 * len).to_string()).collect();
        let reason = format!("must have {} hexadecimal digits", lengths.join(" or "));
        return Err(RequestError::wrong("challenge", reason));
    }
    let mut filled = challenge.to_vec();
    filled.resize(block, 0);
    Ok(filled)
}

/// Bytes after padding.
fn padded(len: usize, padding: Padding, algorithm: Algorithm) -> usize {
    let least = if padding == Padding::One { len + 1 } else { len };
    least.next_multiple_of(algorithm.block_len().unwrap_or(8))
}

/// Hexadecimal digits of a profile, which were checked when it was loaded.
fn decoded(digits: &str) -> Vec<u8> {
    hex::decode(digits).unwrap_or_default()
}
