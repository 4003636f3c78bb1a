//! Keys in words.

use claviger_client::{Key, KeyMove, RaisedCeiling};

pub(super) fn move_line(stands: &KeyMove) -> String {
    let KeyMove { answers, from, to, compared, diverged, failed, skipped } = stands;
    match (from, to) {
        (Some(from), Some(to)) => format!(
            "{from} -> {to}: {answers} answers; {compared} compared, {diverged} differ, {failed} failed, {skipped} skipped"
        ),
        _ => format!("{answers} answers; the key is not on its way anywhere"),
    }
}

/// A key on one line, then what else there is to know of it.
pub(super) fn details(key: &Key) -> String {
    let behind = match key.behind.as_slice() {
        [] => String::new(),
        backends => format!("\n  not yet {} in {}", key.state, backends.join(", ")),
    };
    format!(
        "{}\n  in {}; may live {}\n  usage {}, mode {}, exportability {}; at most {} leaves a backend\n  \
         {} at {}; kcv by {}{}{behind}",
        line(&Key { behind: Vec::new(), ..key.clone() }),
        if key.backends.is_empty() { "no backend".to_owned() } else { key.backends.join(", ") },
        key.places.join(", "),
        key.usage,
        key.mode,
        key.exportability,
        ceiling(key),
        key.origin,
        key.created,
        key.kcv_rule,
        period(key),
    )
}

/// When it may be used, if that is bounded.
fn period(key: &Key) -> String {
    let times = [
        ("protects from", &key.protect_from),
        ("protects until", &key.protect_until),
        ("verifies until", &key.verify_until),
    ];
    let times: Vec<String> =
        times.into_iter().filter_map(|(name, time)| Some(format!("{name} {}", time.as_ref()?))).collect();
    if times.is_empty() { String::new() } else { format!("\n  {}", times.join(", ")) }
}

/// What may leave, and until when.
fn ceiling(key: &Key) -> String {
    match &key.raised {
        Some(RaisedCeiling { ceiling, until }) => format!("{ceiling} until {until}, then {}", key.ceiling),
        None => key.ceiling.clone(),
    }
}

/// A key on one line.
pub(in crate::cli) fn line(key: &Key) -> String {
    let factors = if key.factors.is_empty() {
        String::new()
    } else {
        format!("  level {} ({})", key.level, key.factors.join(" "))
    };
    let behind = match key.behind.as_slice() {
        [] => String::new(),
        backends => format!("  not yet so in {}", backends.join(", ")),
    };
    format!(
        "{}/{}/{}  {:<6} version {}  kcv {}  {:<11} {}{factors}{behind}",
        key.tenant, key.scheme, key.role, key.algorithm, key.version, key.kcv, key.state, key.id
    )
}
