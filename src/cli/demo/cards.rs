//! Simulated cards: what real ones would have sent to clearing, good records and spoilt ones.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use claviger_card_schemes::{CardScheme, Field, FieldSet};
use claviger_hsm_api::{Algorithm, Batch, Column, Finish, KeyColumn, Recipe, Secret};
use claviger_hsm_engine::{EngineError, PlainKey, run};

/// Cards of one scheme, with test keys that only this process knows.
pub(super) struct Cards {
    scheme: Arc<CardScheme>,
    /// Two components of each TAC key, by algorithm.
    components: [(Algorithm, [Vec<u8>; 2]); 2],
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
const TERMINAL: &str = "115366392864";
const DATE: &str = "20261121";

impl Cards {
    pub(super) fn new(scheme: Arc<CardScheme>) -> anyhow::Result<Self> {
        let random = || -> anyhow::Result<Vec<u8>> {
            let mut bytes = vec![0; 16];
            claviger_hsm_engine::fill_random(&mut bytes)?;
            Ok(bytes)
        };
        let components = [(Algorithm::TripleDes, [random()?, random()?]), (Algorithm::Sm4, [random()?, random()?])];
        Ok(Self { scheme, components })
    }

    /// The two components of a TAC key, hexadecimal.
    pub(super) fn components(&self, algorithm: &str) -> [String; 2] {
        let [des, sm4] = &self.components;
        let (_, halves) = if algorithm == "sm4" { sm4 } else { des };
        [hex::encode_upper(&halves[0]), hex::encode_upper(&halves[1])]
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
        for (algorithm, halves) in &self.components {
            let recipe = self.scheme.tac_recipe(*algorithm, 0).context("the scheme has TACs")?;
            let made = recipe.legs.into_iter().map(|leg| match leg.finish {
                Finish::VerifyMac { spec, message, .. } => {
                    claviger_hsm_api::Leg { finish: Finish::Mac { spec, message }, ..leg }
                }
                _ => leg,
            });
            let recipe = Recipe { legs: made.collect() };
            let chosen: Vec<usize> = (0..records.len()).filter(|at| records[*at].algorithm == *algorithm).collect();
            let mut columns = vec![
                Column::with_capacity(8, chosen.len()),
                Column::with_capacity(8, chosen.len()),
                Column::with_capacity(22, chosen.len()),
            ];
            for at in &chosen {
                let fields = &records[*at].fields;
                let factors = self.scheme.factors(0, fields).map_err(|field| anyhow::anyhow!("{field} is missing"))?;
                let message: Vec<u8> =
                    [Field::Amount, Field::TxnType, Field::TerminalId, Field::Ttc, Field::Date, Field::Time]
                        .iter()
                        .flat_map(|field| fields.get(*field).unwrap_or_default().to_vec())
                        .collect();
                columns[0].push(&factors[0]);
                columns[1].push(&factors[1]);
                columns[2].push(&message);
            }
            let key = PlainKey {
                algorithm: *algorithm,
                secret: Secret::init(16, |key| {
                    key.iter_mut().zip(halves[0].iter().zip(&halves[1])).for_each(|(k, (a, b))| *k = a ^ b);
                }),
            };
            let batch = Batch { rows: chosen.len(), columns, keys: vec![KeyColumn::Same(0)] };
            let outcome = run(&[&key], &recipe, &batch, &|_, _| Err(EngineError::NoStore))?;
            for (row, at) in chosen.into_iter().enumerate() {
                tacs[at] = outcome.bytes(0, row).unwrap_or_default().to_vec();
            }
        }
        Ok(tacs)
    }
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
