//! A whole ceremony on paper, and everything that somebody might change in it.

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use sha2::{Digest, Sha256};

use crate::{
    Act, Binding, CourseError, Ending, Event, Opening, PersonalKey, Plan, Transcript, TranscriptError, digest, shipped,
};

struct Cast {
    people: Vec<(String, PersonalKey, String)>,
    plan: String,
    binding: String,
}

/// Everybody whom a plan needs, with a key of their own.
fn cast(id: &str) -> Cast {
    let text = shipped(id).unwrap();
    let plan = Plan::parse(text).unwrap();
    let mut binding = format!("plan = \"{}\"\ntenant = \"demo\"\n", hex::encode(digest(text)));
    let backends: std::collections::BTreeSet<&str> = plan.backend_names().collect();
    for (table, given) in [
        ("parameters", plan.parameters.iter().map(|p| (p.name.as_str(), p.example.as_str())).collect::<Vec<_>>()),
        ("backends", backends.into_iter().map(|name| (name, "embedded")).collect()),
    ] {
        binding += &format!("[{table}]\n");
        given.iter().for_each(|(name, value)| binding += &format!("{name} = \"{value}\"\n"));
    }
    let mut people = Vec::new();
    for role in &plan.roles {
        for number in 1..=role.count {
            let name = format!("claviger://officer/{}-{number}", role.name);
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::default().self_signed(&key).unwrap();
            let fingerprint = hex::encode(Sha256::digest(certificate.der()));
            binding +=
                &format!("[[person]]\nrole = \"{}\"\nname = \"{name}\"\ncertificate = \"{fingerprint}\"\n", role.name);
            let key = PersonalKey::from_pem(certificate.pem(), &key.serialize_pem()).unwrap();
            people.push((name, key, fingerprint));
        }
    }
    Cast { people, plan: text.to_owned(), binding }
}

fn now() -> Timestamp {
    "2026-11-27T10:00:00Z".parse().unwrap()
}

impl Cast {
    fn open(&self) -> Transcript {
        let opening = Opening {
            ceremony: "00112233445566778899aabbccddeeff".to_owned(),
            daemon: "ffeeddccbbaa99887766554433221100".to_owned(),
            by: self.people[0].0.clone(),
            approval: String::new(),
            plan: self.plan.clone(),
            binding: self.binding.clone(),
        };
        Transcript::begin(opening, now(), true).unwrap()
    }

    fn joined(&self) -> Transcript {
        let mut transcript = self.open();
        for (name, _, certificate) in &self.people {
            transcript.add(now(), Event::Joined { by: name.clone(), certificate: certificate.clone() }).unwrap();
        }
        transcript
    }

    /// Whose turn it is.
    fn next(&self, transcript: &Transcript) -> (String, String) {
        let turn = transcript.course().next().unwrap();
        let who = self.people.iter().find(|(name, ..)| turn.is_of(name, transcript.binding())).unwrap();
        (turn.label.clone(), who.0.clone())
    }

    fn done(&self, transcript: &mut Transcript) {
        let (turn, by) = self.next(transcript);
        transcript.add(now(), Event::Done { turn, by, lines: vec![("kcv".to_owned(), "070A16".to_owned())] }).unwrap();
    }

    fn whole(&self) -> Transcript {
        let mut transcript = self.joined();
        while transcript.course().next().is_some() {
            self.done(&mut transcript);
        }
        let finished = Event::Ended { how: Ending::Finished, by: String::new(), reason: String::new() };
        transcript.add(now(), finished).unwrap();
        for (name, key, _) in &self.people {
            let text = transcript.closing(name, key.certificate(), now()).unwrap();
            let signed = key.sign(text.as_bytes()).unwrap();
            transcript.add(now(), Event::Signed { by: name.clone(), signed }).unwrap();
        }
        transcript
    }
}

#[test]
fn a_ceremony_is_read_as_it_was_written() {
    let cast = cast("hand-out-root");
    let transcript = cast.whole();
    let read = Transcript::parse(&transcript.text()).unwrap();
    assert_eq!((read.head(), read.course().unsigned().count()), (transcript.head(), 0));
    assert_eq!(read.course().ending(), Some(Ending::Finished));
    let acts: Vec<(&str, Act)> = read.course().turns().iter().map(|turn| (turn.label.as_str(), turn.act)).collect();
    assert_eq!(
        &acts[..5],
        [("1", Act::Step), ("2.1", Act::Show), ("2.2", Act::Prove), ("2.3", Act::Show), ("2.4", Act::Prove)]
    );
}

#[test]
fn every_changed_byte_is_found() {
    let text = cast("receive-components").whole().text();
    for at in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        let error = Transcript::parse(&changed).err().unwrap_or_else(|| {
            panic!("byte {at} may be changed: {:?}", &changed[at.saturating_sub(60)..(at + 20).min(changed.len())])
        });
        let line = text[..at].matches('\n').count() as u64 + 1;
        // A change may show in the line after, whose hash it is.
        let named = match &error {
            TranscriptError::Plan(_) => line == 1,
            TranscriptError::Line { line: at, .. }
            | TranscriptError::Course { line: at, .. }
            | TranscriptError::Signature { line: at, .. } => (line..=line + 1).contains(at),
        };
        assert!(named, "byte {at} in line {line}: {error}");
    }
}

#[test]
fn lines_that_are_missing_moved_or_doubled_are_found() {
    let text = cast("generate-root").whole().text();
    let lines: Vec<&str> = text.lines().collect();
    for at in 0..lines.len() {
        for change in 0..3 {
            let mut other = lines.clone();
            match change {
                0 if at + 1 < lines.len() => drop(other.remove(at)),
                1 if at + 1 < lines.len() => other.swap(at, at + 1),
                _ => other.insert(at, lines[at]),
            }
            let other: String = other.iter().flat_map(|line| [*line, "\n"]).collect();
            assert!(Transcript::parse(&other).is_err(), "line {at}, change {change}");
        }
    }
    // What is cut off after the end is missing signatures.
    let cut: String = lines[..lines.len() - 1].iter().flat_map(|line| [*line, "\n"]).collect();
    assert_eq!(Transcript::parse(&cut).unwrap().course().unsigned().count(), 1);
}

#[test]
fn nobody_does_what_is_not_theirs_or_not_next() {
    let cast = cast("receive-components");
    let mut transcript = cast.open();
    let refused = |transcript: &mut Transcript, event: Event| match transcript.add(now(), event) {
        Err(TranscriptError::Course { error, .. }) => error,
        other => panic!("{other:?}"),
    };
    let of = |name: &str| format!("claviger://officer/{name}");
    let done = |turn: &str, name: &str| Event::Done { turn: turn.to_owned(), by: of(name), lines: Vec::new() };
    assert_eq!(refused(&mut transcript, done("1", "witness-1")), CourseError::Absent(of("witness-1")));
    let returned = Event::Returned { by: of("witness-1") };
    assert_eq!(refused(&mut transcript, returned), CourseError::Absent(of("witness-1")));
    let mut transcript = cast.joined();
    assert!(matches!(refused(&mut transcript, done("2.1", "custodian-1")), CourseError::NotNext { .. }));
    assert_eq!(refused(&mut transcript, done("1", "officer-1")), CourseError::NotTheirs(of("officer-1")));
    cast.done(&mut transcript);
    assert_eq!(refused(&mut transcript, done("2.1", "custodian-2")), CourseError::NotTheirs(of("custodian-2")));
    for _ in 0..3 {
        let again = Event::Refused { turn: "2.1".to_owned(), by: of("custodian-1"), reason: "no".to_owned() };
        transcript.add(now(), again).unwrap();
    }
    assert_eq!(refused(&mut transcript, done("2.1", "custodian-1")), CourseError::Tries);
    let finished = Event::Ended { how: Ending::Finished, by: String::new(), reason: String::new() };
    assert_eq!(refused(&mut transcript, finished), CourseError::Unfinished);
    let (name, key, certificate) = &cast.people[0];
    let signed = key.sign(b"anything").unwrap();
    assert!(transcript.add(now(), Event::Signed { by: name.clone(), signed }).is_err());
    let again = Event::Joined { by: name.clone(), certificate: certificate.clone() };
    assert_eq!(refused(&mut transcript, again), CourseError::Twice(name.clone()));
}

#[test]
fn components_are_brought_again_and_nothing_else_is() {
    let cast = cast("receive-components");
    let mut transcript = cast.joined();
    assert_eq!(transcript.course().components_from(), None);
    for _ in 0..3 {
        cast.done(&mut transcript);
    }
    // Two of three are entered.
    let from = transcript.course().components_from().unwrap();
    assert_eq!(transcript.course().turns()[from].label, "2.1");
    let back = |to: &str| Event::Back { to: to.to_owned(), reason: "the daemon was started again".to_owned() };
    transcript.add(now(), back("2.1")).unwrap();
    for _ in 0..4 {
        cast.done(&mut transcript);
    }
    // They are joined: no way back leads over that.
    assert_eq!(transcript.course().components_from(), None);
    assert!(transcript.add(now(), back("2.1")).is_err());
}

#[test]
fn signatures_are_of_those_who_were_there_over_how_it_ended() {
    let cast = cast("generate-root");
    let whole = cast.whole();
    let text = whole.text();
    let lines: Vec<&str> = text.lines().collect();
    let unsigned: String = lines[..lines.len() - 2].iter().flat_map(|line| [*line, "\n"]).collect();
    let mut transcript = Transcript::parse(&unsigned).unwrap();
    let [(officer, of_officer, _), (witness, ..)] = &cast.people[..] else { panic!() };
    let closing = transcript.closing(officer, of_officer.certificate(), now()).unwrap();
    assert!(closing.contains("rehearsal: yes") && closing.contains("outcome: finished"), "{closing}");
    // Somebody else's key under one's name, and one's key under another text.
    let signed = of_officer.sign(closing.as_bytes()).unwrap();
    assert!(transcript.add(now(), Event::Signed { by: witness.clone(), signed: signed.clone() }).is_err());
    let other = of_officer.sign(b"another text").unwrap();
    assert!(transcript.add(now(), Event::Signed { by: officer.clone(), signed: other }).is_err());
    transcript.add(now(), Event::Signed { by: officer.clone(), signed: signed.clone() }).unwrap();
    assert!(transcript.add(now(), Event::Signed { by: officer.clone(), signed }).is_err());
}

/// People who sign at once come in any order.
#[test]
fn signatures_come_in_any_order_of_time() {
    let cast = cast("generate-root");
    let text = cast.whole().text();
    let lines: Vec<&str> = text.lines().collect();
    let unsigned: String = lines[..lines.len() - 2].iter().flat_map(|line| [*line, "\n"]).collect();
    let mut transcript = Transcript::parse(&unsigned).unwrap();
    for (late, (name, key, _)) in [9, 3].into_iter().zip(&cast.people) {
        let at = now() + std::time::Duration::from_secs(late);
        let signed = key.sign(transcript.closing(name, key.certificate(), at).unwrap().as_bytes()).unwrap();
        transcript.add(at, Event::Signed { by: name.clone(), signed }).unwrap();
    }
    assert_eq!(Transcript::parse(&transcript.text()).unwrap().course().unsigned().count(), 0);
}

#[test]
fn a_plan_that_does_not_hold_together_is_refused_by_name() {
    let whole = shipped("receive-components").unwrap();
    for (from, to, at) in [
        (
            "do = \"join-components\"\nby = \"officer\"\nkey = \"received\"",
            "do = \"confirm\"\nby = \"officer\"\nsay = \"ok\"",
            "step 4",
        ),
        ("do = \"enter-components\"", "do = \"generate-key\"", "step 2: "),
        ("do = \"enter-components\"", "do = \"bake-cake\"", "step 2: unknown variant `bake-cake`"),
        ("count = 3", "count = \"three\"", "role 2: invalid type"),
        ("count = 3", "count = 1", "step 2"),
        ("name = \"witness\"", "name = \"witnesses\"", "step 1"),
        ("key = \"received\"\nwritten", "key = \"other\"\nwritten", "step 2"),
        ("version = \"{version}\"", "version = \"{versoin}\"", "plan"),
        ("hours = 8", "hours = 0", "`hours`"),
        ("hours = 8", "hours = 99999", "plan, `hours`: invalid value"),
        ("hours = 8", "hours = 8\nslot = 3", "plan"),
        ("id = \"receive-components\"", "id = \"Receive\"", "`id`"),
        ("title = \"Receive", "title = \"\\u202EReceive", "`title`"),
        ("say = \"The three", "say = \"\\napprovals: 0\\nThe three", "step 1"),
        ("[[step]]", "[[step", "plan, line"),
    ] {
        let changed = whole.replacen(from, to, 1);
        assert_ne!(changed, whole, "{from}");
        let error = Plan::parse(&changed).unwrap_err();
        assert!(error.to_string().starts_with(at), "{from}: {error}");
    }
    // As a shell leaves it when what should have written it failed.
    assert_eq!(Plan::parse("\n").unwrap_err().to_string(), "plan: is empty");
    assert_eq!(Binding::parse("").unwrap_err().to_string(), "binding: is empty");
}

#[test]
fn a_binding_that_does_not_fit_is_refused_by_name() {
    let cast = cast("receive-components");
    for (from, to, at) in [
        ("tenant", "tennant", "binding"),
        ("role = \"DTK\"", "", "binding, `parameters`"),
        ("role = \"DTK\"", "role = \"DTK\"\nmore = \"1\"", "binding, `parameters`"),
        ("role = \"DTK\"", "role = \"{scheme}\"", "binding, `role`"),
        ("home", "house", "binding, `backends`"),
        ("role = \"witness\"", "role = \"custodian\"", "binding, `person`"),
        ("officer/custodian-2", "officer/custodian-1", "binding, person"),
        ("plan = \"", "plan = \"00", "binding, `plan`"),
        ("role = \"witness\"", "role = \"judge\"", "binding, `person`: the plan has no role `judge`"),
    ] {
        let changed = cast.binding.replacen(from, to, 1);
        assert_ne!(changed, cast.binding, "{from}");
        let bound = Binding::parse(&changed).and_then(|binding| Plan::bound(&cast.plan, &binding));
        let error = bound.unwrap_err();
        assert!(error.to_string().starts_with(at), "{from}: {error}");
    }
}

#[test]
fn a_plan_is_reviewed_as_well() {
    let whole = shipped("receive-components").unwrap();
    let compare = "[[step]]\ndo = \"compare-kcv\"\nby = \"witness\"\nkey = \"received\"\n";
    let lint = Plan::parse(&whole.replacen(compare, "", 1)).unwrap().lint();
    assert!(lint.iter().any(|found| found.contains("check value of key `received`")), "{lint:?}");
}

/// What is no fault, and yet nobody would want.
#[test]
fn lint_says_what_no_good_ceremony_has() {
    let without = |id: &str, step: &str| {
        let text = shipped(id).unwrap();
        let steps: Vec<&str> = text.split("[[step]]").filter(|part| !part.contains(step)).collect();
        Plan::parse(&steps.join("[[step]]")).unwrap().lint()
    };
    for (id, step, says) in [
        ("raise-ceiling", "lower-ceiling", "step 3: the ceiling of key `key` comes down by the clock alone"),
        ("send-key-block", "\"confirm\"", "step 1: a key goes out before anybody has confirmed to whom"),
        ("rotate-version", "by = \"witness\"", "nobody watches who does nothing else"),
    ] {
        let found = without(id, step);
        assert!(found.iter().any(|line| line == says), "{id}: {found:?}");
    }
}
