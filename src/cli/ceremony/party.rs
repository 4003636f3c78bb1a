//! Those who take part from this terminal: one person, or all of them in a rehearsal by oneself.

use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use claviger_client::{
    Ceremony, CeremonyAfter, CeremonyTurn, Client, ClientError, Health, SignCeremony, StepTaken, TakeStep,
};
use claviger_key_ceremonies::{Event, PersonalKey, Signed, Transcript, Written, digest, words};
use jiff::Timestamp;
use x509_parser::prelude::GeneralName;

use super::{is_free, leave, of_ceremony};
use crate::cli::keys::read_wrapped;
use crate::cli::output::Output;
use crate::cli::screen::{Left, Quiet, Screen};
use crate::cli::sheet::{Printer, Sheet};

/// Between two looks at a daemon that is sealed.
const LOOK: Duration = Duration::from_secs(1);

/// Somebody with a certificate.
pub(super) struct Participant {
    name: String,
    client: Client,
    key: PersonalKey,
}

impl Participant {
    pub(super) fn new(client: Client, key: PersonalKey) -> anyhow::Result<Self> {
        let name = name_in(key.certificate())?;
        Ok(Self { name, client, key })
    }
}

/// The URI in a certificate, PEM: by it the daemon knows whose it is.
pub(super) fn name_in(certificate: &str) -> anyhow::Result<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).context("no certificate in PEM")?;
    let certificate = pem.parse_x509().context("no X.509 certificate")?;
    let names = certificate.subject_alternative_name().context("its extensions cannot be read")?;
    let uri = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        })
    });
    uri.context("the certificate has no URI, and so names nobody")
}

/// Those who sit at this terminal.
pub(super) struct Party<'a> {
    people: Vec<Participant>,
    /// Asks how it stands.
    client: Client,
    /// Whether they are all of them, so that each turn says whose it is.
    alone: bool,
    output: &'a Output,
    /// Lines of the transcript that were told.
    told: usize,
    waiting: String,
    /// Why the last entry was not good, for the screen on which it is made again.
    refused: String,
    /// Why components are brought again, for the screen on which the next one is.
    again: String,
    /// Where components and shares are printed, in place of being shown.
    printer: Option<Printer>,
    /// The ceremony's title and id, for the sheets.
    ceremony: String,
}

impl<'a> Party<'a> {
    /// One person.
    pub(super) fn one(person: Participant, output: &'a Output) -> Self {
        let client = person.client.clone();
        Self::of(vec![person], client, false, output)
    }

    /// Everybody's part, of whom `client` is one.
    pub(super) fn all(people: Vec<Participant>, client: Client, output: &'a Output) -> Self {
        Self::of(people, client, true, output)
    }

    /// Nobody's part: others join elsewhere.
    pub(super) fn watching(client: Client, output: &'a Output) -> Self {
        Self::of(Vec::new(), client, false, output)
    }

    fn of(people: Vec<Participant>, client: Client, alone: bool, output: &'a Output) -> Self {
        let [waiting, refused, again, ceremony] = [const { String::new() }; 4];
        Self { people, client, alone, output, told: 0, waiting, refused, again, printer: None, ceremony }
    }

    /// The same, with sheets in place of screens.
    pub(super) fn printing_to(self, printer: Option<Printer>) -> Self {
        Self { printer, ..self }
    }

    /// Takes part until the ceremony is over and everybody here has signed.
    pub(super) async fn hold(mut self, id: &str, out: Option<&Path>) -> anyhow::Result<ExitCode> {
        is_free(out)?;
        let path = format!("/v1/ceremonies/{}", of_ceremony(id)?);
        let mut ceremony: Ceremony = self.client.get(&path, &()).await?;
        for person in &self.people {
            ceremony = person.client.post(&format!("{path}/join"), &()).await?;
        }
        self.greet(&ceremony);
        ceremony = self.ask_for_what_was_sent(&path, ceremony).await?;
        let rehearsal = if ceremony.rehearsal { "REHEARSAL\n" } else { "" };
        self.ceremony = format!("{rehearsal}{}\nceremony {}", ceremony.title, ceremony.id);
        // What is typed while nobody is asked is not shown, and answers nothing.
        let _quiet = Quiet::begin();
        loop {
            self.tell(&ceremony)?;
            let Some(next) = ceremony.next.clone() else { break };
            let mine = self.people.iter().position(|person| next.people.contains(&person.name));
            match mine {
                Some(mine) => {
                    self.until_unsealed().await?;
                    let again = || format!("take the turn up again with `claviger ... ceremony join {id}`");
                    self.take(&path, mine, &next).await.map_err(|error| match error.is::<Left>() {
                        true => error.context(again()),
                        false => error,
                    })?;
                }
                None => {
                    self.wait_for(&next);
                    ceremony = self.changed(&path, &ceremony).await?;
                    continue;
                }
            }
            ceremony = self.client.get(&path, &()).await?;
        }
        for person in 0..self.people.len() {
            if ceremony.unsigned.contains(&self.people[person].name) {
                ceremony = self.sign(&path, person, &ceremony).await?;
            }
        }
        self.tell(&ceremony)?;
        self.end(&path, ceremony, out).await
    }

    /// Waits for a daemon that was started again: while it is sealed it takes no turn.
    async fn until_unsealed(&self) -> anyhow::Result<()> {
        let mut said = false;
        while let Err(error) = self.client.get::<Health>("/readyz", &()).await {
            match error {
                ClientError::Answer(sealed) if sealed.contains("503") => {}
                other => return Err(other.into()),
            }
            if !std::mem::replace(&mut said, true) {
                self.output.say("the daemon is sealed: unseal it from another terminal (claviger ... unseal)");
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    fn greet(&self, ceremony: &Ceremony) {
        let rehearsal = if ceremony.rehearsal { "REHEARSAL: its keys are for nothing else\n" } else { "" };
        let names: Vec<&str> = self.people.iter().map(|person| person.name.as_str()).collect();
        self.output.say(format!(
            "{rehearsal}{} ({}), tenant {}\nceremony {}\nhere: {}\n",
            ceremony.title,
            ceremony.plan,
            ceremony.tenant,
            ceremony.id,
            names.join(", ")
        ));
    }

    /// Whoever had a key given out, and comes back before anything else has happened, may not have got it.
    async fn ask_for_what_was_sent(&self, path: &str, ceremony: Ceremony) -> anyhow::Result<Ceremony> {
        let transcript = Transcript::parse(&ceremony.transcript).context("the daemon's transcript does not hold")?;
        let course = transcript.course();
        let Some(sent) = course.sent_last().filter(|_| course.ending().is_none()) else { return Ok(ceremony) };
        let is_mine = |event: &Event, person: &Participant| matches!(event, Event::Done { turn, by, .. } if *turn == sent.label && *by == person.name);
        let last = transcript.entries().iter().rev().find(|entry| matches!(entry.event, Event::Done { .. }));
        let mine = last.and_then(|last| self.people.iter().find(|person| is_mine(&last.event, person)));
        let Some(person) = mine else { return Ok(ceremony) };
        let heading = format!("A key was given out to you in turn {}.", sent.label);
        if ask(&heading, "Type yes if you have it, no if it never arrived: ")? {
            return Ok(ceremony);
        }
        let lost = TakeStep { turn: sent.label.clone(), lost: true, ..TakeStep::default() };
        let taken: StepTaken = person.client.post(&format!("{path}/turns"), &lost).await?;
        Ok(taken.ceremony)
    }

    /// What has happened since the last time, in words.
    fn tell(&mut self, ceremony: &Ceremony) -> anyhow::Result<()> {
        let transcript = Transcript::parse(&ceremony.transcript).context("the daemon's transcript does not hold")?;
        let entries = transcript.entries();
        for entry in entries.iter().skip(self.told) {
            let event = match &entry.event {
                Event::Done { turn, by, lines } if is_on_a_letter(&transcript, turn) => {
                    // Whoever compares types what the letter says, and not what stands above.
                    let lines = lines.iter().filter(|(name, _)| name != "kcv").cloned().collect();
                    Event::Done { turn: turn.clone(), by: by.clone(), lines }
                }
                other => other.clone(),
            };
            if let Event::Back { reason, .. } = &event {
                self.again = format!("\nAGAIN: {reason}");
            }
            self.output.say(format!("{:.0}  {}", entry.at, in_words(&event)));
        }
        if entries.len() > self.told {
            self.waiting.clear();
        }
        self.told = entries.len();
        Ok(())
    }

    /// The same ceremony once something has happened in it, or after a while.
    async fn changed(&self, path: &str, ceremony: &Ceremony) -> anyhow::Result<Ceremony> {
        Ok(self.client.get(path, &CeremonyAfter { after: Some(ceremony.head.clone()) }).await?)
    }

    fn wait_for(&mut self, next: &CeremonyTurn) {
        if self.waiting != next.turn {
            self.waiting.clone_from(&next.turn);
            self.output.say(format!("waiting for {}: turn {}, {}", next.people.join(" or "), next.turn, next.words));
        }
    }

    /// Takes the turn of somebody who sits here.
    async fn take(&mut self, path: &str, who: usize, next: &CeremonyTurn) -> anyhow::Result<()> {
        let turns = format!("{path}/turns");
        let mut refused = std::mem::take(&mut self.refused);
        let again = std::mem::take(&mut self.again);
        if refused.is_empty() && next.act == "enter" {
            refused = again;
        }
        let person = &self.people[who];
        let whose = if self.alone { format!("{}: ", person.name) } else { String::new() };
        let heading = format!("{whose}turn {}, {}{refused}", next.turn, next.words);
        let mut step = TakeStep { turn: next.turn.clone(), ..TakeStep::default() };
        let bytes = next.bytes.unwrap_or_default();
        match next.act.as_str() {
            "confirm" => step.confirm = Some(ask(&heading, "Type yes if it is so, no if it is not: ")?),
            "compare" => {
                // Whoever is alone has nobody who reads it aloud.
                if self.alone {
                    ask(&heading, "Type yes when you have read the check value: it stands above, or on the letter: ")?;
                }
                let screen = Screen::open()?;
                step.kcv = Some(screen.type_kcv(&heading, "Type the check value that was given, and press Enter.")?);
            }
            "enter" => {
                let screen = Screen::open()?;
                let written = if next.written.as_deref() == Some("hex") { Written::Hex } else { Written::Letters };
                step.component =
                    screen.type_component(&heading, "component", (written, bytes, next.odd_parity), None)?;
                step.kcv = Some(screen.type_kcv(&heading, "Type the component's check value, and press Enter.")?);
            }
            "prove" => {
                let screen = Screen::open()?;
                let unseen = "Press Tab if you have not seen it: another is drawn for you.";
                let what = if next.written.is_some() { "component" } else { "share" };
                step.component =
                    screen.type_component(&heading, what, (Written::Letters, bytes, false), Some(unseen))?;
                step.lost = step.component.is_none();
            }
            "see" => {
                // On the other screen before it is asked for: who cannot be shown it does not get it.
                let screen = Screen::open()?;
                let taken: StepTaken = match person.client.post(&turns, &step).await {
                    Err(error) if is_meanwhile(&error) => return Ok(()),
                    taken => taken?,
                };
                let Some(component) = &taken.component else { return Ok(()) };
                let kcv = taken.component_kcv.as_deref();
                match &mut self.printer {
                    Some(printer) => {
                        let heading = format!("{}\n{heading}\nfor {}", self.ceremony, self.people[who].name);
                        printer.print(&Sheet { heading: &heading, component, kcv })?;
                        screen.wait_for_sheet(&heading, printer.name())?;
                    }
                    None => screen.show_component(&heading, component, kcv)?,
                }
                return Ok(());
            }
            "receive" | "receive-ecb" => {
                let path = ask_file(&heading, "Type the name of the file that it came in, and press Enter: ")?;
                // What is not there is asked for again.
                match read_wrapped(Path::new(&path)) {
                    Ok(came) => step.wrapped = Some(came),
                    Err(error) => {
                        self.refused = format!("\nREFUSED: {error:#}");
                        return Ok(());
                    }
                }
                if next.act == "receive-ecb" {
                    let screen = Screen::open()?;
                    step.kcv = Some(screen.type_kcv(&heading, "Type the key's check value, and press Enter.")?);
                }
            }
            "send" => {
                let path =
                    ask_file(&heading, "Type the name of a file that it is to be written to, and press Enter: ")?;
                // Before it is asked for: who cannot keep it does not get it.
                let mut file = match file_for_key(&path) {
                    Ok(file) => file,
                    Err(error) => {
                        self.refused = format!("\nREFUSED: {path}: {error}");
                        return Ok(());
                    }
                };
                let taken: StepTaken = match person.client.post(&turns, &step).await {
                    Ok(taken) => taken,
                    Err(error) => {
                        // So that the same name may be given again.
                        let _ = std::fs::remove_file(&path);
                        return Err(error.into());
                    }
                };
                let key = taken.component.as_deref().map(String::as_str).unwrap_or_default();
                // As it is, so that the file has the SHA-256 that the transcript says.
                file.write_all(key.as_bytes()).and_then(|()| file.sync_all()).with_context(|| path.clone())?;
                let kcv = taken.component_kcv.as_deref().unwrap_or_default();
                self.output.say(format!("{path} holds the key as it goes out, check value {kcv}"));
                return Ok(());
            }
            _ => {
                if !ask(&heading, "Type yes to have it done: ")? {
                    bail!("nothing was done: take the turn up again with `claviger ... ceremony join`");
                }
            }
        }
        match person.client.post::<StepTaken>(&turns, &step).await {
            Ok(_) => Ok(()),
            // What was brought was looked at, and was not good: another file may be.
            Err(ClientError::Problem(refused))
                if refused.code == "step_refused"
                    || (refused.code == "bad_field" && next.act.starts_with("receive")) =>
            {
                self.output.say(format!("refused: {}", refused.detail));
                self.refused = format!("\nREFUSED: {}", refused.detail);
                Ok(())
            }
            Err(error) if is_meanwhile(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn sign(&self, path: &str, who: usize, ceremony: &Ceremony) -> anyhow::Result<Ceremony> {
        let person = &self.people[who];
        let transcript = Transcript::parse(&ceremony.transcript).context("the daemon's transcript does not hold")?;
        let now = Timestamp::from_second(Timestamp::now().as_second())?;
        let at = transcript.entries().last().map_or(now, |entry| now.max(entry.at));
        let text = transcript.closing(&person.name, person.key.certificate(), at).context("it is not over")?;
        self.output.say(format!("\n{text}in words: {}\n", words(&digest(&ceremony.transcript))));
        let whose = if self.alone { format!("{}: ", person.name) } else { String::new() };
        if !ask(&format!("{whose}this is how the ceremony ended."), "Type yes to sign that: ")? {
            bail!("not signed: sign with `claviger ... ceremony join`");
        }
        let Signed { certificate, signature } = person.key.sign(text.as_bytes())?;
        let signed = SignCeremony { time: at.to_string(), certificate, signature };
        Ok(person.client.post(&format!("{path}/signatures"), &signed).await?)
    }

    /// Waits for the others' signatures, if the transcript is wanted.
    async fn end(&mut self, path: &str, mut ceremony: Ceremony, out: Option<&Path>) -> anyhow::Result<ExitCode> {
        // Whoever sits nowhere has nothing else to do.
        if out.is_some() || self.people.is_empty() {
            if !ceremony.unsigned.is_empty() {
                self.output.say(format!("waiting for the signatures of {}", ceremony.unsigned.join(", ")));
            }
            while !ceremony.unsigned.is_empty() {
                ceremony = self.changed(path, &ceremony).await?;
            }
            self.tell(&ceremony)?;
        }
        if let Some(out) = out {
            leave(out, &ceremony.transcript)?;
        }
        self.output.result(&ceremony, || format!("the ceremony is {}", ceremony.state));
        Ok(if ceremony.state == "finished" { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// Whether somebody was quicker: another of the same role, or the same person at another terminal.
fn is_meanwhile(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem(refused) if ["ceremony_order", "ceremony_over"].contains(&&*refused.code))
}

/// Whether a turn took in a key from others whose check value is still to be compared with theirs.
fn is_on_a_letter(transcript: &Transcript, turn: &str) -> bool {
    let known = transcript.course().turns().iter().find(|known| known.label == turn);
    known.is_some_and(|turn| transcript.unproved().any(|(step, _)| step == turn.step))
}

/// A new file for its owner alone, or one that a terminal has left empty.
fn file_for_key(path: &str) -> std::io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).mode(0o600);
    match options.clone().create_new(true).open(path) {
        Err(taken) if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0) => {
            options.open(path).map_err(|_| taken)
        }
        opened => opened,
    }
}

/// Asks a person on a terminal, or whoever feeds this: nothing of it is secret.
fn ask(heading: &str, question: &str) -> anyhow::Result<bool> {
    let mut heading = Some(heading);
    loop {
        match ask_once(heading.take(), question)?.as_str() {
            "yes" => return Ok(true),
            "no" => return Ok(false),
            _ if std::io::stdin().is_terminal() => eprintln!("that is neither yes nor no"),
            _ => {}
        }
    }
}

/// The name of a file. Whoever types the answer of another question is asked again.
fn ask_file(heading: &str, question: &str) -> anyhow::Result<String> {
    let mut heading = Some(heading);
    loop {
        match ask_once(heading.take(), question)?.as_str() {
            "" => {}
            answer @ ("yes" | "no") => eprintln!("a file is asked for; one of that name is ./{answer}"),
            answer => return Ok(answer.to_owned()),
        }
    }
}

fn ask_once(heading: Option<&str>, question: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    let _aloud = Quiet::interrupted();
    if let Some(heading) = heading.filter(|_| stdin.is_terminal()) {
        eprintln!("\n{heading}");
    }
    eprint!("{question}");
    let mut answer = String::new();
    if stdin.lock().read_line(&mut answer)? == 0 {
        bail!("there is nobody to ask");
    }
    Ok(answer.trim().to_owned())
}

/// A line of a transcript as people read it.
pub(super) fn in_words(event: &Event) -> String {
    let named = |lines: &[(String, String)]| {
        let words: Vec<String> = lines.iter().map(|(name, value)| format!("{name} {value}")).collect();
        if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
    };
    match event {
        Event::Opened(opening) => format!("opened by {}", opening.by),
        Event::Joined { by, .. } => format!("{by} is there"),
        Event::Returned { by } => format!("{by} has joined once more"),
        Event::Resumed {} => "the daemon was started again".to_owned(),
        Event::Begun { turn, by } => format!("turn {turn} begun by {by}"),
        Event::Done { turn, by, lines } => format!("turn {turn} done by {by}{}", named(lines)),
        Event::Refused { turn, by, reason } => format!("turn {turn} by {by} refused: {reason}"),
        Event::Undone { turn, by, reason } => format!("turn {turn} by {by} could not be done: {reason}"),
        Event::Back { to, reason } => format!("back to turn {to}: {reason}"),
        Event::Ended { how, by, reason } => {
            let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("{}{by}{reason}", how.as_str())
        }
        Event::Signed { by, .. } => format!("signed by {by}"),
    }
}
