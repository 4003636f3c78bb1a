//! What others find: a scanner of TLS, and a driver of APIs by the description that they serve.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::daemon::{Daemon, words};
use crate::load::{CMAC, generic, into};

/// A tool of the environment that `./test` makes.
fn tool(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".venv/tools/bin").join(name);
    assert!(path.exists(), "{} is not there: `./test --setup` installs it", path.display());
    path
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

#[test]
fn tls_is_modern() {
    let daemon = Daemon::start();
    let connection = daemon.connection("officer");
    let address = connection.url.trim_start_matches("https://").to_owned();
    let output = run(Command::new(tool("python"))
        .args(["-m", "sslyze", "--mozilla_config=modern", "--cert"])
        .arg(&connection.certificate)
        .arg("--key")
        .arg(&connection.key)
        .arg(&address));
    let said = words(&output);
    let (_, found) = said.split_once("COMPLIANCE AGAINST TLS CONFIGURATION").unwrap_or_else(|| panic!("{said}"));
    let wrong: Vec<&str> = found.lines().filter_map(|line| line.trim().strip_prefix("* ")).collect();
    // The authority of a development directory is its own, and its certificates last.
    let expected = |line: &&str| {
        line.starts_with("certificate_path_validation:") || line.starts_with("maximum_certificate_lifespan:")
    };
    assert!(wrong.iter().all(expected) && !wrong.is_empty(), "{said}");
    assert!(said.contains("Not vulnerable to Heartbleed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_what_it_says() {
    let daemon = Daemon::start();
    into(&daemon, &[], generic("CMAC"), CMAC).await;
    for name in ["officer", "card-management"] {
        let connection = daemon.connection(name);
        let output = run(Command::new(tool("st"))
            .arg("run")
            .arg(format!("{}/openapi.json", connection.url))
            .arg("--request-cert")
            .arg(&connection.certificate)
            .arg("--request-cert-key")
            .arg(&connection.key)
            .arg("--tls-verify")
            .arg(&connection.ca)
            .args(["--max-examples", "10", "--continue-on-failure", "--no-color", "--checks"])
            .arg("not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance")
            .current_dir(daemon.folder.path()));
        let said = words(&output);
        assert!(output.status.success(), "as {name}: {said}");
        let tested =
            said.lines().find_map(|line| line.trim().strip_prefix("Tested: ")).unwrap_or_else(|| panic!("{said}"));
        assert!(tested.parse::<usize>().unwrap() > 30, "{said}");
    }
}
