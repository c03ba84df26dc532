//! How a phase is read, written, printed and drawn.

use proptest::prelude::*;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::phase::{Phase, UnknownPhase};

use crate::{Backup, Gate, Roll};

#[test]
fn a_phase_is_a_string_in_the_object() {
    assert_eq!(serde_json::to_value(Backup::Running).ok(), Some(json!("Running")));
    assert_eq!(serde_json::to_value(Gate::Shut).ok(), Some(json!("it's shut")));
    assert_eq!(
        format!("[{:>8}|{:<8}]", Backup::Running, Roll::Done),
        "[ Running|Done    ]"
    );
}

#[test]
fn what_is_no_phase_is_refused_with_those_that_are() {
    let refused = |value: Value| serde_json::from_value::<Gate>(value).map_err(|error| error.to_string());
    let known = "it's shut, a \"\\\" ajar, Open";
    assert_eq!(
        refused(json!("Locked")),
        Err(format!("unknown Gate \"Locked\": it is one of {known}"))
    );
    assert_eq!(
        refused(json!("")),
        Err(format!("unknown Gate \"\": it is one of {known}"))
    );
    assert_eq!(
        refused(json!(7)),
        Err(format!(
            "invalid type: integer `7`, expected a Gate, one of {known}"
        ))
    );
    let error: Result<Gate, UnknownPhase> = "open".parse();
    assert_eq!(error.map_err(|error| error.text), Err("open".to_owned()));
}

proptest! {
    /// *Tolerant*: what is read of any text is written back as it was, and is a declared phase or none.
    #[test]
    fn any_text_survives(text in prop_oneof![
        any::<String>(),
        proptest::sample::select(vec!["Pending", "Running", "Succeeded", "Failed", "pending", ""]).prop_map(str::to_owned),
    ]) {
        let read: Backup = serde_json::from_value(json!(text)).expect("others are tolerated");
        prop_assert_eq!(&serde_json::to_value(&read).expect("a string"), &json!(text));
        prop_assert_eq!(read.to_string(), text.clone());
        prop_assert_eq!(text.parse::<Backup>(), Ok(read.clone()));
        let declared = Backup::ALL.iter().find(|phase| phase.as_str() == text);
        prop_assert_eq!(declared.cloned().unwrap_or(Backup::Other(text)), read);
    }
}

#[test]
fn machines_are_drawn() {
    assert_eq!(
        Backup::MACHINE.mermaid(),
        "stateDiagram-v2
    [*] --> Pending
    Pending --> Running
    Pending --> Failed
    Running --> Succeeded
    Running --> Failed
    Succeeded --> [*]
    Failed --> [*]
"
    );
    assert_eq!(
        Gate::MACHINE.mermaid(),
        "stateDiagram-v2
    state \"it's shut\" as _0
    state \"a #quot;\\#quot; ajar\" as _1
    [*] --> _0
    _0 --> _1
    _0 --> Open
    [*] --> _1
    _1 --> _0
    Open --> _1
"
    );
    assert_eq!(
        Roll::MACHINE.dot(),
        "digraph \"Roll\" {
  \"\" [shape=point];
  \"Forward\" [shape=box];
  \"Back\" [shape=box];
  \"Done\" [shape=box, peripheries=2];
  \"\" -> \"Forward\";
  \"Forward\" -> \"Back\";
  \"Back\" -> \"Done\";
}
"
    );
    assert!(
        Gate::MACHINE
            .dot()
            .contains("\"a \\\"\\\\\\\" ajar\" -> \"it's shut\";")
    );
}
