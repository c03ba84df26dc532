//! Declarations that make no machine: the words that are blamed, and what is said of them.

use proc_macro2::TokenStream;

use crate::expand;

/// The faults of a declaration, as `words blamed: message`.
fn faults(source: &str) -> Vec<String> {
    let input: TokenStream = source.parse().expect("the source is made of tokens");
    let faults = expand::checked(input).err();
    let faults = faults.into_iter().flatten();
    faults
        .map(|fault| format!("{}: {}", fault.blamed, fault.error))
        .collect()
}

/// The code made of a declaration, on one line.
fn code(source: &str) -> String {
    let input: TokenStream = source.parse().expect("the source is made of tokens");
    expand::phase(input, "::facade").to_string()
}

#[test]
fn what_makes_no_machine_is_refused_at_the_word() {
    let cases = [
        (
            "struct P;",
            "P: a phase is an enum, with a variant for each state that `P` may be in",
        ),
        (
            "enum P<T> { #[phase(initial, terminal)] A, #[phase(unknown)] B(String) }",
            "< T >: a phase is a string in an object, so its type has no parameters",
        ),
        (
            "enum P {}",
            "P: no phase is declared: add a variant, as in `#[phase(initial, to(…))] Pending`",
        ),
        (
            "enum P { #[phase(unknown)] Other(String) }",
            "P: no phase is declared: add a variant, as in `#[phase(initial, to(…))] Pending`",
        ),
        (
            "enum P { #[phase(to(B))] A, #[phase(terminal)] B }",
            "P: no phase is initial: mark the one in which an object begins, as in `#[phase(initial, to(…))]`",
        ),
        (
            "enum P { #[phase(initial)] A }",
            "A: where does `A` go? Say `#[phase(to(…))]`, or `#[phase(terminal)]` if it is never left",
        ),
        (
            "enum P { A }",
            "A: where does `A` go? Say `#[phase(to(…))]`, or `#[phase(terminal)]` if it is never left",
        ),
        (
            "enum P { #[phase(initial, to())] A }",
            "to: name the phases that `A` may go to, or say `terminal` instead",
        ),
        (
            "enum P { #[phase(initial, to(*))] A }",
            "*: there is no other phase to go to: declare one, or say `terminal`",
        ),
        (
            "enum P { #[phase(initial, to(B), terminal)] A, #[phase(terminal)] B }",
            "terminal: `A` cannot be terminal and go somewhere: remove `terminal` or `to(…)`",
        ),
        (
            "enum P { #[phase(initial, to(Runing))] Pending, #[phase(terminal)] Running }",
            "Runing: there is no phase `Runing`; there are `Pending`, `Running`",
        ),
        (
            "enum P { #[phase(initial, to(A, B))] A, #[phase(terminal)] B }",
            "A: to stay in a phase is always legal: say where else it goes",
        ),
        (
            "enum P { #[phase(initial, to(B, B))] A, #[phase(terminal)] B }",
            "B: this is said twice: remove one",
        ),
        (
            "enum P { #[phase(initial, to(B, *))] A, #[phase(terminal)] B }",
            "*: `*` is every phase: remove it, or the names beside it",
        ),
        (
            "enum P { #[phase(initial, to(Other))] A, #[phase(unknown)] Other(String) }",
            "Other: `Other` is what other versions wrote: it is read, and never entered",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(to(A))] B }",
            "B: `B` cannot be reached from an initial phase: name it in the `to(…)` of one that can, or mark it `initial`",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(terminal)] B, #[phase(unknown, to(B))] Other(String) }",
            "B: `B` cannot be reached from an initial phase: name it in the `to(…)` of one that can, or mark it `initial`",
        ),
        (
            "enum P { #[phase(initial, terminal)] A(u8) }",
            "(u8): a declared phase is a name and holds nothing; only the variant marked `unknown` does, a `String`",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(unknown)] Other }",
            "Other: the variant for unknown phases holds what was written: `Other(String)`",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(unknown)] Other(String, u8) }",
            "(String , u8): the variant for unknown phases holds what was written: `Other(String)`",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(unknown)] Other { text: String } }",
            "{ text : String }: the variant for unknown phases holds what was written: `Other(String)`",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(unknown)] B(String), #[phase(unknown)] C(String) }",
            "C: `B` is there for unknown phases already: remove one of the two",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(unknown, initial)] Other(String) }",
            "initial: an unknown phase is read and never entered, so no object begins so: remove `initial`",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(unknown, terminal)] Other(String) }",
            "terminal: where an unknown phase ends is not known: remove `terminal`; without `to(…)` it is not left",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(unknown, name = \"X\")] Other(String) }",
            "name: an unknown phase has the name that was written: remove `name`",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(unknown, to())] Other(String) }",
            "to: name the phases that an unknown one may be left for, or remove `to()`",
        ),
        (
            "enum P { #[phase(initial, terminal, name = \"\")] A }",
            "\"\": the empty text means that there is no phase yet: give it a name",
        ),
        (
            "enum P { #[phase(initial, terminal, name = \"a\\n\")] A }",
            "\"a\\n\": people read phases: leave control characters out of the name",
        ),
        (
            "enum P { #[phase(initial, terminal)] A, #[phase(initial, terminal, name = \"A\")] B }",
            "\"A\": `A` and `B` are both written \"A\": give one of them another `name`",
        ),
        (
            "enum P { #[phase(initial, initial, terminal)] A }",
            "initial: `initial` is said twice: remove one",
        ),
        (
            "enum P { #[phase(initial)] #[phase(terminal, final(B))] A }",
            "final: `final` means nothing here; what does is `initial`, `to(…)`, `terminal`, `unknown`, `name = \"…\"`",
        ),
        (
            "#[phase(default = 1 + 1)] enum P { #[phase(initial, terminal)] A }",
            "default: `default` means nothing here; what does is `enforce`, `schema = \"…\"`, `crate = \"…\"`",
        ),
        (
            "#[phase(schema = \"open\")] enum P { #[phase(initial, terminal)] A }",
            "\"open\": a schema is \"enum\", \"string\" or \"none\"",
        ),
        (
            "#[phase(enforce, schema = \"none\")] enum P { #[phase(initial, terminal)] A }",
            "enforce: the rule is part of the schema that `schema = \"none\"` leaves out: remove one of the two",
        ),
        (
            "#[phase(crate = \"not a path\")] enum P { #[phase(initial, terminal)] A }",
            "\"not a path\": name a crate or a module, as in `crate = \"trimtab_apimachinery\"`",
        ),
        (
            "enum P { #[phase] A }",
            ": expected attribute arguments in parentheses: #[phase(...)]",
        ),
        ("enum P { #[phase(to = \"B\")] A }", ": expected parentheses"),
    ];
    for (source, expected) in cases {
        let found = faults(source);
        assert_eq!(found.first().map(String::as_str), Some(expected), "{source}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let source = "enum P { #[phase(initial, to(X), again)] A, B, #[phase(terminal, unknown)] C }";
    let blamed: Vec<String> = faults(source)
        .iter()
        .filter_map(|fault| fault.split(':').next().map(str::to_owned))
        .collect();
    assert_eq!(blamed, ["again", "B", "C", "terminal", "X"]);
    let errors = code(source);
    assert_eq!(errors.matches("compile_error").count(), 5, "{errors}");
}

#[test]
fn a_machine_is_made_whole() {
    let source = "enum P { #[phase(initial, to(*))] A, #[phase(to(A), name = \"b\")] B, #[phase(unknown, to(B))] C(String) }";
    assert_eq!(faults(source), Vec::<String>::new());
    let code = code(source);
    for part in [
        "use :: facade :: phase :: __private as _private",
        "State :: new (\"A\" , \"\" , true , & [\"b\"])",
        "State :: new (\"b\" , \"\" , false , & [\"A\"])",
        "Option :: Some (& [\"b\"])",
        "Values :: Any",
        "Transitions :: Free",
    ] {
        assert!(code.contains(part), "{part} is not in {code}");
    }
}

#[test]
fn paths_and_schemas_follow_the_words() {
    let with = |words: &str| {
        code(&format!(
            "#[phase({words})] enum P {{ #[phase(initial, terminal)] A }}"
        ))
    };
    assert!(with("crate = \"a::b\"").contains("use a :: b :: phase :: __private as _private"));
    assert!(with("schema = \"string\"").contains("Values :: Any"));
    assert!(with("enforce").contains("Transitions :: Enforced"));
    assert!(
        with("enforce").contains("Values :: Declared"),
        "no others are tolerated"
    );
    assert!(!with("schema = \"none\"").contains("JsonSchema"));
}

#[test]
fn documentation_becomes_paragraphs() {
    let code = code(
        "/// What it\n/// does.\n///\n/// More.\nenum P { /** Waits. */ #[phase(initial, terminal)] A }",
    );
    assert!(code.contains("\"What it does.\\n\\nMore.\""), "{code}");
    assert!(code.contains("\"Waits.\""), "{code}");
}

#[test]
fn raw_identifiers_are_written_without_their_mark() {
    let source = "enum r#P { #[phase(initial, to(r#Loop))] A, #[phase(to(B, A))] Loop, #[phase(terminal)] r#B, \
                  #[phase(unknown)] r#Other(String) }";
    assert_eq!(faults(source), Vec::<String>::new());
    let code = code(source);
    for part in [
        "Machine :: new (\"P\"",
        "State :: new (\"A\" , \"\" , true , & [\"Loop\"])",
        "State :: new (\"Loop\" , \"\" , false , & [\"B\" , \"A\"])",
        "State :: new (\"B\"",
        "Self :: r#B => \"B\"",
        "concat ! (:: core :: module_path ! () , \"::\" , \"P\")",
    ] {
        assert!(code.contains(part), "{part} is not in {code}");
    }
    let same = "enum P { #[phase(initial, to(r#A))] A, #[phase(unknown, to(Other))] r#Other(String) }";
    let found = faults(same);
    assert!(
        found[0].contains("to stay in a phase is always legal"),
        "{found:?}"
    );
    assert!(found[1].contains("it is read, and never entered"), "{found:?}");
    let twice = "enum P { #[phase(initial, terminal)] r#A, #[phase(initial, terminal, name = \"A\")] B }";
    assert!(faults(twice)[0].contains("are both written \"A\""));
}

#[test]
fn names_stay_in_their_cells() {
    let source = "enum P { #[phase(initial, to(B, C), name = \"a|b\")] A, #[phase(to(A), name = \"``\")] B, \
                  #[phase(terminal)] C }";
    let input: TokenStream = source.parse().expect("the source is made of tokens");
    let Ok((declaration, ways)) = expand::checked(input) else {
        panic!("it is a machine");
    };
    assert_eq!(
        expand::table(&declaration, &ways),
        "| from | to |\n|---|---|\n| none yet | `a\\|b` |\n| `a\\|b` | ``` `` ```, `C` |\n| ``` `` ``` | `a\\|b` |\n| `C` |  |\n"
    );
}
