//! Plans, bindings, transcripts and components as people write them: each is read, or is wrong in something that is named.

#![no_main]

use claviger_key_ceremonies::{
    Binding, Bundle, Plan, Transcript, TypedComponent, Written, read_component, write_component,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match kind % 5 {
        0 => {
            if let Ok(plan) = Plan::parse(text) {
                plan.lint();
                plan.steps.iter().for_each(|step| assert!(!step.words().is_empty()));
            }
        }
        1 => {
            if let Ok(binding) = Binding::parse(text) {
                let _ = Plan::bound(shipped_plan(), &binding);
            }
        }
        4 => {
            if let Ok(bundle) = Bundle::parse(text) {
                let again = Bundle::parse(&bundle.text()).unwrap();
                assert_eq!(again.keys(), bundle.keys());
            }
        }
        2 => {
            if let Ok(transcript) = Transcript::parse(text) {
                // What is read is written again as it was.
                assert_eq!(transcript.text(), text);
            }
        }
        _ => {
            for (written, len) in [(Written::Letters, 16), (Written::Hex, 16), (Written::Letters, 24)] {
                let mut typed = TypedComponent::new(written, len, kind & 4 != 0);
                for c in text.chars() {
                    if c == '\u{8}' {
                        typed.pop();
                    } else {
                        let _ = typed.push(c);
                    }
                }
                if let Ok(read) = typed.finish() {
                    let again = read_component(&write_component(&read), Written::Letters, len, false);
                    assert_eq!(again.unwrap().expose(), read.expose());
                }
            }
        }
    }
});

fn shipped_plan() -> &'static str {
    claviger_key_ceremonies::shipped("generate-root").unwrap_or_default()
}
