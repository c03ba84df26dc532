//! Named formats, as `format.dns1123Label()`: what is wrong with a text by them.

use cel::common::types::{CelList, CelOptional, CelString};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use trimtab_apimachinery_meta::names;

use super::super::super::formats;
use super::{argument, opaque};
use named::Named;

mod named {
    use super::opaque;

    /// A format among CEL's values, by its name.
    #[derive(Clone, Debug, PartialEq)]
    pub(super) struct Named(pub(super) &'static str);

    opaque!(Named, "kubernetes.NamedFormat");
}

const PREFIX: &str = "Prefix";

/// Declares a function for each format, and lists the formats.
macro_rules! formats {
    ($($name:literal),* $(,)?) => {
        const ALL: &[&str] = &[$($name),*];

        fn declare_each(env: &mut Env) -> Result<(), DeclarationError> {
            $(
                let name = concat!("format.", $name);
                env.add_overload(name, name, Vec::new(), |_| Ok(CowVal::owned(Named($name))))?;
            )*
            Ok(())
        }
    };
}

formats![
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    declare_each(env)?;
    let (text, format) = (CelString::cel_type().to_owned(), Named::cel_type().to_owned());
    env.add_overload("format.named", "format-named", vec![text], |arguments| {
        let name = argument::<CelString<'_>>(one(&arguments, 0)?)?.inner();
        let found = ALL.iter().find(|known| **known == name);
        Ok(CowVal::owned(found.map_or_else(CelOptional::none, |name| {
            CelOptional::of(Box::new(Named(name)))
        })))
    })?;
    let text = CelString::cel_type().to_owned();
    env.add_member_overload("validate", "format-validate", format, vec![text], |arguments| {
        let format = argument::<Named>(one(&arguments, 0)?)?;
        let text = argument::<CelString<'_>>(one(&arguments, 1)?)?.inner();
        let faults = faults(format.0, text);
        if faults.is_empty() {
            return Ok(CowVal::owned(CelOptional::none()));
        }
        let faults = faults
            .into_iter()
            .map(|fault| -> Box<dyn Val> { Box::new(CelString::from(fault)) });
        let faults = CelList::from(faults.collect::<Vec<_>>());
        Ok(CowVal::owned(CelOptional::of(Box::new(faults))))
    })
}

fn one<'b, 'v>(arguments: &'b [CowVal<'_, 'v>], place: usize) -> Result<&'b (dyn Val + 'v), ExecutionError> {
    let found = arguments.get(place).map(|argument| &**argument);
    found.ok_or(ExecutionError::MissingArgumentOrTarget)
}

/// What is wrong with a text, in the words of Kubernetes.
fn faults(format: &str, text: &str) -> Vec<String> {
    // What is to be added to a prefix may end in something else than a dash.
    let masked = match text.strip_suffix('-') {
        Some(rest) if format.ends_with(PREFIX) && !rest.is_empty() => {
            let mut masked = rest.to_owned();
            masked.pop();
            masked.push('a');
            masked
        }
        _ => text.to_owned(),
    };
    let unless = |accepts: bool, fault: &str| {
        if accepts {
            Vec::new()
        } else {
            vec![fault.to_owned()]
        }
    };
    let accepts = |name: &str| formats::named(name).is_some_and(|format| format.accepts(text));
    match format.strip_suffix(PREFIX).unwrap_or(format) {
        "dns1123Label" => names::dns1123_label(&masked),
        "dns1123Subdomain" => names::dns1123_subdomain(&masked),
        "dns1035Label" => names::dns1035_label(&masked),
        "qualifiedName" => names::qualified_name(text),
        "labelValue" => names::label_value(text),
        "uri" => unless(
            accepts("uri"),
            &format!("parse {text:?}: invalid URI for request"),
        ),
        "uuid" => unless(accepts("uuid"), "does not match the UUID format"),
        "byte" => unless(accepts("byte"), "invalid base64"),
        "date" => unless(accepts("date"), "invalid date"),
        _ => unless(accepts("datetime"), "invalid datetime"),
    }
}
