//! The pictures of docs/ceremonies.md: each is what a real terminal shows, drawn anew with `CLAVIGER_PICTURES=1`.

use std::path::PathBuf;

use super::{QUESTIONS, Rehearsal};

/// Pixels of a character, and of the margin.
const CELL: (usize, usize) = (8, 18);
const MARGIN: usize = 12;

/// A terminal's screen as a picture: its lines, as wide as the longest.
fn picture(screen: &str) -> String {
    let lines: Vec<&str> = screen.trim_end().lines().collect();
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(1);
    let (width, height) = (columns * CELL.0 + 2 * MARGIN, lines.len() * CELL.1 + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#1b1f24\"/>\n\
         <g font-family=\"monospace\" font-size=\"13\" fill=\"#e6e6e6\" xml:space=\"preserve\">\n"
    );
    for (row, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let y = MARGIN + (row + 1) * CELL.1 - 5;
        let text = line.replace('&', "&amp;").replace('<', "&lt;");
        // As long as its characters, whatever the font.
        let long = line.chars().count() * CELL.0;
        svg.push_str(&format!("<text x=\"{MARGIN}\" y=\"{y}\" textLength=\"{long}\">{text}</text>\n"));
    }
    svg + "</g>\n</svg>\n"
}

/// The same without what chance or the hour gives: components, ids, check values, times, folders.
fn without_chance(picture: &str) -> Vec<String> {
    let of_chance = |word: &str| {
        let letters = word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit()) && word.len() >= 5;
        let hex = word.len() >= 32 && word.chars().all(|c| c.is_ascii_hexdigit());
        let time = word.len() >= 19 && word.starts_with("20") && word.ends_with('Z');
        letters || hex || time || word.starts_with("/tmp/")
    };
    let text = |line: &str| line.split('>').nth(1).unwrap_or_default().trim_end_matches("</text").to_owned();
    let words = |line: String| {
        let words = line.split_whitespace().map(|word| {
            let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '/');
            if of_chance(bare) { "*" } else { word }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    picture.lines().filter(|line| line.starts_with("<text")).map(|line| words(text(line))).collect()
}

/// Whether a picture of the page is what a terminal shows now; draws it if that is asked for.
fn shows(name: &str, screen: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(format!("{name}.svg"));
    let now = picture(screen);
    if std::env::var_os("CLAVIGER_PICTURES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let drawn = std::fs::read_to_string(&path).unwrap();
    assert_eq!(without_chance(&drawn), without_chance(&now), "{name}: draw it anew with CLAVIGER_PICTURES=1");
    let page = std::fs::read_to_string(path.parent().unwrap().parent().unwrap().join("ceremonies.md")).unwrap();
    assert!(page.contains(&format!("pictures/{name}.svg")), "the page does not show {name}");
}

#[test]
fn the_pictures_are_what_terminals_show() {
    let rehearsal = Rehearsal::start("hand-out-root");
    let mut witness = rehearsal.room.join("witness");
    witness.terminal.expect(QUESTIONS[0]);
    shows("confirm", &witness.terminal.screen());
    witness.terminal.type_in("yes\r");
    let mut custodian = rehearsal.room.join("custodian");
    custodian.terminal.expect("Press Enter when it is written down");
    shows("component", &custodian.terminal.screen());
    custodian.terminal.type_in("\r");
    custodian.terminal.expect("Type the component; blanks");
    // B is one of the letters, 1 is none.
    custodian.terminal.type_in("1");
    custodian.terminal.expect("Not taken");
    shows("typed-back", &custodian.terminal.screen());

    let rehearsal = Rehearsal::start("receive-components");
    let mut witness = rehearsal.room.join("witness");
    witness.terminal.expect(QUESTIONS[0]);
    witness.terminal.type_in("yes\r");
    let mut custodian = rehearsal.room.join("custodian");
    custodian.terminal.expect("Type the component; blanks");
    custodian.terminal.type_in("0123456789ABCDEF");
    custodian.terminal.expect("0123 4567 89AB CDEF");
    shows("entered", &custodian.terminal.screen());
    custodian.terminal.type_in("FEDCBA9876543210");
    custodian.terminal.expect("Press Enter.");
    custodian.terminal.type_in("\r");
    custodian.terminal.expect("Type the component's check value");
    custodian.terminal.type_in("AAAAAA\r");
    custodian.terminal.expect("REFUSED");
    shows("refused", &custodian.terminal.screen());
}
