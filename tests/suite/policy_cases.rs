//! The cases that come with the policies, and the commands that need no daemon: `policy check`, `test` and `explain`.

use std::path::{Path, PathBuf};

use crate::daemon::{cli, words};

pub(crate) fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

#[test]
fn the_shipped_cases_hold() {
    for directory in [None, Some(shipped())] {
        let directory = directory.as_ref().map(|path| path.to_str().unwrap());
        let arguments: Vec<&str> = ["policy", "test"].into_iter().chain(directory).collect();
        let output = cli(&arguments);
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        assert!(words(&output).contains("134 cases, 0 failed"), "{}", words(&output));
    }
    assert_eq!(cli(&["policy", "check"]).status.code(), Some(0));
}

/// A copy of the shipped sets, and the files of their policies.
fn copied(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for set in ["production", "dev", "tests"] {
        std::fs::create_dir_all(root.join(set)).unwrap();
        for file in std::fs::read_dir(shipped().join(set)).unwrap() {
            let file = file.unwrap();
            let copy = root.join(set).join(file.file_name());
            std::fs::copy(file.path(), &copy).unwrap();
            files.extend(Some(copy).filter(|_| set != "tests"));
        }
    }
    assert_eq!(files.len(), 10);
    files
}

/// A policy that nobody would miss is one that no case speaks of: neither a file nor one policy of it goes unnoticed.
#[test]
fn no_policy_goes_without_a_case_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for file in copied(folder.path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let policies: Vec<&str> = text.split_inclusive(";\n").filter(|policy| policy.contains("@id")).collect();
        let without = policies.iter().map(|policy| text.replacen(policy, "", 1));
        for left in without.chain([String::new()]) {
            std::fs::write(&file, &left).unwrap();
            let output = cli(&["policy", "test", folder.path().to_str().unwrap()]);
            let what = file.display();
            assert_eq!(output.status.code(), Some(1), "{what}, what is missed by no case is not in: {left}");
            assert!(words(&output).contains("FAILED "), "{}", words(&output));
            tried += 1;
        }
        std::fs::write(&file, text).unwrap();
    }
    assert!(tried > 30, "{tried} policies and files");
}

/// Neither does one line of one, nor one word of a list that stands in a line: a named case fails, or the set is no set any more.
#[test]
fn no_line_of_a_policy_goes_without_a_case_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let (mut failed, mut refused) = (0, 0);
    for file in copied(folder.path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.split_inclusive('\n').filter(|line| !line.trim().is_empty() && !line.starts_with("//"));
        for line in lines {
            let at = line.as_ptr() as usize - text.as_ptr() as usize;
            let (before, after) = (&text[..at], &text[at + line.len()..]);
            for left in [String::new()].into_iter().chain(without_one_word(line)) {
                std::fs::write(&file, format!("{before}{left}{after}")).unwrap();
                let output = cli(&["policy", "test", folder.path().to_str().unwrap()]);
                match output.status.code() {
                    Some(1) if words(&output).contains("FAILED ") => failed += 1,
                    Some(2) => refused += 1,
                    _ => panic!("{}: no case misses what `{left}` has less than `{line}`", file.display()),
                }
            }
        }
        std::fs::write(&file, text).unwrap();
    }
    assert!(failed > 80 && refused > 50, "{failed} failed a case, {refused} were no set");
}

/// Nor does a condition that is left out, a number that is one less, or an `and` that becomes an `or`, or the other way round.
#[test]
fn no_policy_is_loosened_without_a_case_that_fails() {
    let folder = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for file in copied(folder.path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, len, other) in loosened(&text) {
            let left = format!("{}{other}{}", &text[..at], &text[at + len..]);
            std::fs::write(&file, &left).unwrap();
            let output = cli(&["policy", "test", folder.path().to_str().unwrap()]);
            let what = format!("`{other}` in the place of `{}` in {}", &text[at..at + len], file.display());
            assert_eq!(output.status.code(), Some(1), "no case misses it: {what}: {}", words(&output));
            assert!(words(&output).contains("FAILED "), "{what}");
            tried += 1;
        }
        std::fs::write(&file, text).unwrap();
    }
    assert!(tried > 50, "{tried} were loosened");
}

/// Where a policy could say something else, how long what it says there is, and what it would say.
fn loosened(text: &str) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    for word in ["when {", "unless {"] {
        for (at, _) in text.match_indices(word) {
            let mut open = 0;
            let closes = |byte: u8| {
                open += i32::from(byte == b'{') - i32::from(byte == b'}');
                byte == b'}' && open == 0
            };
            let len = text[at..].bytes().position(closes).unwrap() + 1;
            found.push((at, len, String::new()));
        }
    }
    for (sign, other) in [("&&", "||"), ("||", "&&")] {
        found.extend(text.match_indices(sign).map(|(at, _)| (at, 2, other.to_owned())));
    }
    for sign in [">= ", "< "] {
        for (at, _) in text.match_indices(sign) {
            let number = text[at + sign.len()..].split(|c: char| !c.is_ascii_digit()).next().unwrap();
            let less = number.parse::<u64>().unwrap() - 1;
            found.push((at + sign.len(), number.len(), less.to_string()));
        }
    }
    found
}

/// A line with a list, each time with one word of it less.
fn without_one_word(line: &str) -> Vec<String> {
    let Some((before, (list, after))) =
        line.split_once('[').and_then(|(before, rest)| Some((before, rest.split_once(']')?)))
    else {
        return Vec::new();
    };
    let words: Vec<&str> = list.split(", ").collect();
    let but = |left_out: usize| {
        let others = words.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, word)| *word);
        format!("{before}[{}]{after}", others.collect::<Vec<_>>().join(", "))
    };
    (0..words.len()).map(but).collect()
}

/// A directory as the configuration takes it is checked and tested as it is; what a daemon would not take, neither is here.
#[test]
fn a_plain_directory_is_a_set_of_named_policies_that_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let put = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    let run = |what: &str| {
        let output = cli(&["policy", what, root]);
        (output.status.code(), words(&output))
    };
    let empty = run("check");
    assert!(empty.0 == Some(2) && empty.1.contains(&format!("there is no policy in {root}")), "{empty:?}");
    let policy = "@id(\"own.verify\")\n@reason(\"clearing verifies\")\n\
        permit (principal in Claviger::Role::\"clearing\", action == Claviger::Action::\"verify_mac\", resource);\n";
    let second = policy.replace("own.verify", "own.second");
    for (wrong, says) in [
        (format!("{policy}{}", second.replace("@id(\"own.second\")\n", "")), "policy 2 of it has no @id"),
        (second.replace("own.second", " "), "policy 1 of it has no @id"),
        (second.replace("@reason(\"clearing verifies\")\n", ""), "policy `own.second` has no @reason"),
        (second.replace("clearing verifies", ""), "policy `own.second` has no @reason"),
        (second.replace("principal in Claviger::Role::\"clearing\"", "principal == ?principal"), "a template"),
        ("// nothing\n".to_owned(), "there is no policy in"),
    ] {
        put("own.cedar", &wrong);
        for what in ["check", "test"] {
            let (code, said) = run(what);
            let names = said.contains("own.cedar: ") || says.contains("there is no policy");
            assert!(code == Some(2) && said.contains(says) && names, "{says}: {said}");
        }
    }
    // A daemon would refuse one by which nobody could unseal it again.
    put("own.cedar", policy);
    assert!(matches!(run("check"), (Some(2), said) if said.contains("nobody could ever unseal")));
    let officers = "@id(\"own.officers\")\n@reason(\"officers hold it\")\n\
        permit (principal in Claviger::Role::\"officer\", action, resource);\n";
    put("own.cedar", &format!("{policy}{officers}"));
    let fits = "2 policies fit the schema\n  roles of callers: clearing, officer\n";
    assert_eq!(run("check"), (Some(0), format!("{root}: {fits}")));
    put(
        "own.cedar",
        &format!(
            "{policy}{}",
            officers
                .replace("resource);", "resource) when { resource is Claviger::Key && resource.state == \"actve\" };")
        ),
    );
    assert!(matches!(run("check"), (Some(2), said) if said.contains("`actve` is no word of `resource.state`")));
    put("own.cedar", &format!("{policy}{officers}"));
    std::fs::create_dir(folder.path().join("tests")).unwrap();
    let case = "[[case]]\nname = \"clearing\"\nexpect = \"allow\"\nby = \"own.verify\"\n\
        request = { who = \"claviger://service/x\", roles = [\"clearing\"], action = \"verify_mac\", \
        key = { tenant = \"a\", scheme = \"generic\", role = \"CMAC\" } }\n";
    for (text, code, says) in [
        (case.to_owned(), 0, "1 cases, 0 failed"),
        (case.replace("\"allow\"", "\"deny\""), 1, "FAILED "),
        (case.replace("name =", "set = \"production\"\nname ="), 2, "there is no set `production`"),
    ] {
        put("tests/own.toml", &text);
        let said = run("test");
        assert!(said.0 == Some(code) && said.1.contains(says), "{says}: {said:?}");
    }
    // Of two sets, a case says which.
    std::fs::create_dir(folder.path().join("production")).unwrap();
    assert!(run("check").1.contains("one or the other"), "{:?}", run("check"));
    std::fs::rename(folder.path().join("own.cedar"), folder.path().join("production/own.cedar")).unwrap();
    put("tests/own.toml", case);
    assert!(run("test").1.contains("does not say of which set"), "{:?}", run("test"));
}

#[test]
fn a_request_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("request.toml");
    let ask = |role: &str| {
        let text = format!(
            "who = \"claviger://service/clearing\"\nroles = [\"clearing\"]\ntenants = [\"demo\"]\n\
             action = \"verify_transactions\"\nkey = {{ tenant = \"demo\", scheme = \"cjt166\", role = \"{role}\" }}\n"
        );
        std::fs::write(&request, text).unwrap();
        cli(&["policy", "explain", request.to_str().unwrap()])
    };
    let (may, may_not) = (ask("DTK"), ask("DLK"));
    assert_eq!((may.status.code(), may_not.status.code()), (Some(0), Some(1)));
    assert!(words(&may).contains("allowed by clearing.verify"), "{}", words(&may));
    let reason = "no policy permits the caller to `verify_transactions` here; it is permitted by `clearing.verify`";
    assert!(words(&may_not).contains(reason), "{}", words(&may_not));
    std::fs::write(&request, "who = \"claviger://service/x\"\naction = \"fly\"\n").unwrap();
    let unknown = cli(&["policy", "explain", request.to_str().unwrap()]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(words(&unknown).contains("`fly` is not an action"), "{}", words(&unknown));
}
