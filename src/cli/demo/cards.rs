//! Simulated cards: what real ones would have sent to clearing, good records and spoilt ones.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use claviger_card_schemes::{CardScheme, Field, FieldSet, PurseStep};
use claviger_client::Purse;
use claviger_hsm_api::{Algorithm, Batch, Column, Finish, KeyColumn, Leg, Mac, Recipe, Secret};
use claviger_hsm_engine::{EngineError, PlainKey, run};

/// Cards of one scheme, with test keys that only this process knows.
pub(super) struct Cards {
    scheme: Arc<CardScheme>,
    /// Two components of each key that the cards hold, by role and algorithm.
    components: Vec<(&'static str, Algorithm, [Vec<u8>; 2])>,
}

/// One simulated record before it has a TAC.
struct Record {
    number: u32,
    algorithm: Algorithm,
    fields: FieldSet,
    /// City, ASN, amount, TTC, as the columns write them.
    text: [String; 4],
}

/// Of this many records one is spoilt in some way.
const SPOILT_EVERY: u32 = 50;
const CITIES: u32 = 40;
const CITY: &str = "1150";
const ASN: &str = "1150491934206620";
const TERMINAL: &str = "115366392864";
const DATE: &str = "20261121";

impl Cards {
    pub(super) fn new(scheme: Arc<CardScheme>) -> anyhow::Result<Self> {
        let random = || -> anyhow::Result<Vec<u8>> {
            let mut bytes = vec![0; 16];
            claviger_hsm_engine::fill_random(&mut bytes)?;
            Ok(bytes)
        };
        let mut components = Vec::new();
        for role in ["DTK", "DLK", "TK"] {
            for algorithm in [Algorithm::TripleDes, Algorithm::Sm4] {
                components.push((role, algorithm, [random()?, random()?]));
            }
        }
        Ok(Self { scheme, components })
    }

    /// The two components of a key, hexadecimal.
    pub(super) fn components(&self, role: &str, algorithm: Algorithm) -> Option<[String; 2]> {
        let (.., halves) = self.components.iter().find(|(name, cipher, _)| *name == role && *cipher == algorithm)?;
        Some([hex::encode_upper(&halves[0]), hex::encode_upper(&halves[1])])
    }

    fn key(&self, role: &str, algorithm: Algorithm) -> anyhow::Result<PlainKey> {
        let found = self.components.iter().find(|(name, cipher, _)| *name == role && *cipher == algorithm);
        let (.., halves) = found.with_context(|| format!("the cards hold no {role}"))?;
        let join =
            |key: &mut [u8]| key.iter_mut().zip(halves[0].iter().zip(&halves[1])).for_each(|(k, (a, b))| *k = a ^ b);
        Ok(PlainKey { algorithm, secret: Secret::init(16, join) })
    }

    /// Writes a file of cards; the first is the one that is topped up later.
    pub(super) fn write_cards(&self, cards: u32, path: &Path) -> anyhow::Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(path).with_context(|| path.display().to_string())?);
        writeln!(file, "card_id,city_code,asn\n卡片00000000,{CITY},{ASN}")?;
        for card in 1..cards {
            writeln!(file, "卡片{card:08},{CITY},{CITY}{card:012}")?;
        }
        Ok(file.flush()?)
    }

    /// The first card's load key under the transport key, and its check value: what the bureau must find.
    pub(super) fn wrapped_load_key(&self) -> anyhow::Result<String> {
        let algorithm = Algorithm::TripleDes;
        let mut fields = FieldSet::default();
        fields.parse(Field::CityCode, CITY.as_bytes())?;
        fields.parse(Field::Asn, ASN.as_bytes())?;
        let set = self.scheme.key_set(None)?;
        let roles = set.roles()?;
        let load = roles.iter().position(|role| role.name() == "DLK").context("the set has a load key")?;
        // All other places are filled with the same key, which does not matter here.
        let on_way: Vec<_> = roles.iter().map(|role| role.key(algorithm, 0)).collect();
        let transport = self.scheme.role("TK")?;
        let mut maker = set.maker(algorithm, &on_way, (&transport, transport.key(algorithm, 0)))?;
        maker.push(&self.scheme, &fields).map_err(|field| anyhow::anyhow!("{field} is missing"))?;
        let (key, transport) = (self.key("DLK", algorithm)?, self.key("TK", algorithm)?);
        let keys: Vec<&PlainKey> = roles.iter().map(|_| &key).chain([&transport]).collect();
        let (recipe, batch) = maker.task();
        let outcome = run(&keys, recipe, batch, &|_, _| Err(EngineError::NoStore))?;
        let [wrapped, kcv] = [2 * load, 2 * load + 1].map(|leg| outcome.bytes(leg, 0).unwrap_or_default());
        Ok(hex::encode_upper([wrapped, kcv].concat()))
    }

    /// A card at a top-up machine: what it sends, with its MAC1.
    pub(super) fn ask_for_load(&self, amount: u32) -> anyhow::Result<Purse> {
        let texts = [
            (Field::CityCode, CITY.to_owned()),
            (Field::Asn, ASN.to_owned()),
            (Field::KeyVersion, "01".to_owned()),
            (Field::AlgId, "00".to_owned()),
            (Field::Rand, "5A17C3E9".to_owned()),
            (Field::OnlineSn, "0007".to_owned()),
            (Field::Balance, "1000".to_owned()),
            (Field::Amount, amount.to_string()),
            (Field::TxnType, "02".to_owned()),
            (Field::TerminalId, TERMINAL.to_owned()),
            (Field::Date, DATE.to_owned()),
            (Field::Time, "081500".to_owned()),
        ];
        let mut fields = FieldSet::default();
        for (field, text) in &texts {
            fields.parse(*field, text.as_bytes())?;
        }
        let step = PurseStep::Verify { verify: "mac1", expected: &[0; 4] };
        let mac = self.load(&fields, step, making)?.bytes(0, 0).context("a MAC comes out")?.to_vec();
        Ok(Purse {
            tenant: super::TENANT.to_owned(),
            scheme: self.scheme.id().to_owned(),
            transaction: "load".to_owned(),
            fields: texts.into_iter().map(|(field, text)| (field.as_str().to_owned(), text)).collect(),
            verify: "mac1".to_owned(),
            mac: hex::encode_upper(mac),
            make: Some("mac2".to_owned()),
        })
    }

    /// Whether the card takes the answer for what it asked.
    pub(super) fn accepts(&self, asked: &Purse, mac2: &str) -> anyhow::Result<bool> {
        let mut fields = FieldSet::default();
        for (name, text) in &asked.fields {
            fields.parse(Field::named(name).context("a field of ours")?, text.as_bytes())?;
        }
        let expected = hex::decode(&asked.mac).ok().context("MAC1 is hexadecimal")?;
        let step = PurseStep::VerifyThenMake { verify: "mac1", expected: &expected, make: "mac2" };
        let mac = self.load(&fields, step, |recipe| recipe)?.bytes(1, 0).context("a MAC comes out")?.to_vec();
        Ok(Mac::new(mac) == hex::decode(mac2).ok().context("MAC2 is hexadecimal")?[..])
    }

    /// A step of the load, made as the card does: with the scheme's recipe and the card's own finish.
    fn load(
        &self,
        fields: &FieldSet,
        step: PurseStep<'_>,
        as_card: fn(Recipe) -> Recipe,
    ) -> anyhow::Result<claviger_hsm_api::Outcome> {
        let algorithm = Algorithm::TripleDes;
        let (recipe, batch) = self.scheme.purse(self.scheme.transaction("load")?, step, algorithm, 0, fields)?;
        Ok(run(&[&self.key("DLK", algorithm)?], &as_card(recipe), &batch, &|_, _| Err(EngineError::NoStore))?)
    }

    /// Writes a day's file and says how many records must get each verdict.
    pub(super) fn write_day(&self, records: u32, path: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut file = BufWriter::new(std::fs::File::create(path).with_context(|| path.display().to_string())?);
        let mut expected = BTreeMap::new();
        writeln!(
            file,
            "record_id,{}",
            Field::OF_RECORDS.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(",")
        )?;
        let numbers: Vec<u32> = (0..records).collect();
        for part in numbers.chunks(4096) {
            let records = part.iter().map(|number| self.record(*number)).collect::<anyhow::Result<Vec<_>>>()?;
            let tacs = self.tacs(&records)?;
            for (record, tac) in records.iter().zip(tacs) {
                let verdict = write_record(&mut file, record, &tac)?;
                *expected.entry(verdict.to_owned()).or_insert(0) += 1;
            }
        }
        file.flush()?;
        Ok(expected)
    }

    fn record(&self, number: u32) -> anyhow::Result<Record> {
        let mut fields = FieldSet::default();
        // Any odd multiplier spreads the numbers; nothing here is secret.
        let spread = number.wrapping_mul(0x9E37_79B1);
        let city = format!("{:04}", 1000 + 10 * (spread % CITIES));
        let asn = format!("{city}{:012}", u64::from(spread) * 37 % 1_000_000_000_000);
        let (amount, ttc) = ((spread >> 8) % 1000, format!("{:08X}", number + 1));
        let text = [city, asn, amount.to_string(), ttc];
        let given =
            [Field::CityCode, Field::Asn, Field::Amount, Field::Ttc].into_iter().zip(text.iter().map(String::as_str));
        let fixed =
            [(Field::TxnType, "09"), (Field::TerminalId, TERMINAL), (Field::Date, DATE), (Field::Time, "081500")];
        for (field, text) in given.chain(fixed) {
            fields.parse(field, text.as_bytes())?;
        }
        let algorithm = if number.is_multiple_of(3) { Algorithm::Sm4 } else { Algorithm::TripleDes };
        Ok(Record { number, algorithm, fields, text })
    }

    /// The TACs that the cards would make: the scheme's own recipe, with the card's finish.
    fn tacs(&self, records: &[Record]) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut tacs = vec![Vec::new(); records.len()];
        for algorithm in [Algorithm::TripleDes, Algorithm::Sm4] {
            let role = self.scheme.tac_role().context("the scheme has TACs")?;
            let recipe = making(self.scheme.tac_recipe(algorithm, 0).context("the scheme has TACs")?);
            let chosen: Vec<usize> = (0..records.len()).filter(|at| records[*at].algorithm == algorithm).collect();
            let mut columns = vec![
                Column::with_capacity(8, chosen.len()),
                Column::with_capacity(8, chosen.len()),
                Column::with_capacity(22, chosen.len()),
            ];
            for at in &chosen {
                let fields = &records[*at].fields;
                let factors =
                    self.scheme.factors(&role, fields).map_err(|field| anyhow::anyhow!("{field} is missing"))?;
                let message: Vec<u8> =
                    [Field::Amount, Field::TxnType, Field::TerminalId, Field::Ttc, Field::Date, Field::Time]
                        .iter()
                        .flat_map(|field| fields.get(*field).unwrap_or_default().to_vec())
                        .collect();
                columns[0].push(&factors[0]);
                columns[1].push(&factors[1]);
                columns[2].push(&message);
            }
            let key = self.key("DTK", algorithm)?;
            let batch = Batch { rows: chosen.len(), columns, keys: vec![KeyColumn::Same(0)] };
            let outcome = run(&[&key], &recipe, &batch, &|_, _| Err(EngineError::NoStore))?;
            for (row, at) in chosen.into_iter().enumerate() {
                tacs[at] = outcome.bytes(0, row).unwrap_or_default().to_vec();
            }
        }
        Ok(tacs)
    }
}

/// The recipe of whoever makes what the other side verifies.
fn making(recipe: Recipe) -> Recipe {
    let made = recipe.legs.into_iter().map(|leg| match leg.finish {
        Finish::VerifyMac { spec, message, .. } => Leg { finish: Finish::Mac { spec, message }, ..leg },
        _ => leg,
    });
    Recipe { legs: made.collect() }
}

/// Writes a line and says which verdict it must get: every so often one is spoilt, each time in another
/// way.
fn write_record(file: &mut impl Write, record: &Record, tac: &[u8]) -> std::io::Result<&'static str> {
    let [city, asn, amount, ttc] = &record.text;
    let (mut amount, mut ttc, mut version) = (amount.clone(), ttc.clone(), "01");
    let spoilt = record.number % SPOILT_EVERY == SPOILT_EVERY - 1;
    let verdict = match (spoilt, record.number / SPOILT_EVERY % 4) {
        (false, _) => "valid",
        (true, 0) => {
            amount += "0";
            if amount == "00" { "valid" } else { "invalid" }
        }
        (true, 1) => {
            ttc.clear();
            "unverifiable"
        }
        (true, 2) => {
            version = "77";
            "unknown_key"
        }
        (true, _) => {
            amount = "4294967296".to_owned();
            "malformed"
        }
    };
    let alg_id = if record.algorithm == Algorithm::Sm4 { "04" } else { "00" };
    let tac = hex::encode_upper(tac);
    writeln!(
        file,
        "公交{:08},{city},,{asn},09,{amount},,,{TERMINAL},{ttc},{DATE},081500,{version},{alg_id},{tac}",
        record.number
    )?;
    Ok(verdict)
}
