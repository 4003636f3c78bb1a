//! Components on paper: with a QR code that another reads, and on no screen.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::{Player, Rehearsal, Sheet};
use crate::daemon::words;
use crate::terminal::Terminal;

/// The component on the last sheet that came out, and its check value; its QR code says the same.
pub(super) fn last_sheet(paper: &str) -> Sheet {
    let sheet = paper.strip_suffix('\u{c}').unwrap().rsplit('\u{c}').next().unwrap();
    let group = |word: &str| word.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    let rows = sheet.lines().filter(|line| line.starts_with("    ") && !line.contains('#'));
    let rows = rows.filter(|line| !line.trim().is_empty() && line.split_whitespace().all(group));
    let component = rows.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    let kcv = sheet.lines().find_map(|line| line.trim().strip_prefix("check value ")).unwrap_or_default();
    assert_eq!(read_code(sheet), component, "{sheet}");
    (component, kcv.to_owned())
}

/// What another reader makes of the squares.
fn read_code(sheet: &str) -> String {
    let rows: Vec<&[u8]> = sheet.lines().filter(|line| line.contains("##")).map(str::as_bytes).collect();
    let left = rows.iter().map(|row| row.iter().position(|c| *c == b'#').unwrap()).min().unwrap();
    let code = rqrr::SimpleGrid::from_func(rows.len(), |x, y| rows[y].get(left + 2 * x) == Some(&b'#'));
    rqrr::Grid::new(code).decode().unwrap().1
}

#[test]
fn components_are_printed_and_shown_nowhere() {
    for plan in ["hand-out-root", "share-storage-key"] {
        let mut rehearsal = Rehearsal::start(plan);
        let (folder, data) = (rehearsal.folder.path().to_owned(), rehearsal.room.data.display().to_string());
        let mut players = BTreeMap::new();
        for who in rehearsal.room.cast().into_iter().filter(|who| who.starts_with("custodian")) {
            let printer = folder.join(format!("{who}.prn"));
            let id = rehearsal.room.id.clone();
            let join = ["--data", &data, "--as", &who, "ceremony", "join", &id, "--print", printer.to_str().unwrap()];
            let player = Player::at(&folder, &join);
            players.insert(who.clone(), Player { printer: Some(printer), ..player });
        }
        let printing = players.len();
        let players = rehearsal.room.play(players);
        assert_eq!(rehearsal.daemon.end(), 0, "{}", rehearsal.daemon.everything_visible());
        let mut printed = 0;
        for player in players.values().filter(|player| player.printer.is_some()) {
            let path = player.printer.as_ref().unwrap();
            let paper = std::fs::read_to_string(path).unwrap();
            assert!(paper.starts_with("CLAVIGER\n\nREHEARSAL\n") && paper.contains(&rehearsal.room.id), "{paper}");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let (component, _) = last_sheet(&paper);
            let written = player.terminal.written();
            assert!(!written.contains("Write this down") && written.contains("It was printed on"), "{written}");
            // It is on a screen only as its custodian types it back.
            let before = written.split("; blanks are of no matter").next().unwrap();
            let group = component.split(' ').next().unwrap();
            assert!(group.len() >= 5 && !before.contains(group), "{plan}: it was printed, and shown as well");
            printed += 1;
        }
        assert_eq!(printed, printing);
    }
    // A file that is there is no printer.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letters.txt");
    std::fs::write(&file, "dear").unwrap();
    let data = folder.path().join("dev");
    let daemon = crate::daemon::Daemon::start();
    let refused = daemon.cli("custodian", &["ceremony", "join", "00", "--print", file.to_str().unwrap()]);
    assert!(words(&refused).contains("is no printer") && !data.exists(), "{}", words(&refused));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "dear");
    // Nor is what swallows everything, or what whoever sits here would see.
    for (place, says) in [
        ("/dev/null", "prints nothing"),
        ("/dev/full", "prints nothing"),
        ("/dev/stdout", "is this terminal"),
        ("/dev/fd/2", "is this terminal"),
        ("/dev/ptmx", "is a terminal"),
        ("-", "is no printer"),
    ] {
        let refused = words(&daemon.cli("custodian", &["ceremony", "join", "00", "--print", place]));
        assert!(refused.contains(says), "{place}: {refused}");
    }
    let data = daemon.data();
    let join = ["--data", data.to_str().unwrap(), "--as", "custodian", "ceremony", "join", "00", "--print", "/dev/tty"];
    let mut own = Terminal::claviger(&join, folder.path());
    assert_eq!(own.end(), 2);
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let unread = words(&daemon.cli("custodian", &["ceremony", "join", "00", "--print", pipe.to_str().unwrap()]));
    assert!(unread.contains("nobody reads from"), "{unread}");
    assert!(own.everything_visible().contains("is this terminal"), "{}", own.everything_visible());
}
