//! Reading and changing fields of objects, beyond what all kinds share: numbers of which zero means nothing,
//! quantities.

use serde_json::Value;
use trimtab_apimachinery_meta::Quantity;

/// The elements of a list of an object, to be changed; none when it is not there.
pub(super) fn each_mut<'o>(
    parent: &'o mut Value,
    field: &str,
) -> impl Iterator<Item = &'o mut Value> + use<'o> {
    parent
        .get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Sets a number that is zero or not there.
pub(super) fn zero_to(parent: &mut Value, field: &str, value: i64) {
    if parent[field].as_i64().unwrap_or_default() == 0 {
        parent[field] = value.into();
    }
}

/// A quantity; `None` when it is none.
pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Rounds amounts up to thousandths, the finest that resources are counted in.
pub(super) fn round_up_resources(list: &mut Value) {
    for (_, amount) in list.as_object_mut().into_iter().flatten() {
        let Some(quantity) = quantity(amount) else {
            continue;
        };
        let milli = quantity.milli_value();
        let cut = matches!(milli, i64::MAX | i64::MIN);
        if !cut && Quantity::milli(milli) != quantity {
            *amount = Quantity::milli(milli).to_string().into();
        }
    }
}
