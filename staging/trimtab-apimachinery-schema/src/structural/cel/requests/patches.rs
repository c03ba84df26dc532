//! What mutations are written with: `Object{…}`, `Object.spec{…}`, `JSONPatch{…}`, and JSON made of values.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, IdedExpr, LiteralValue, MapEntryExpr, MapExpr};
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelStruct, CelUInt,
};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use serde_json::{Map, Number, Value};

use super::super::library;
use super::super::meter::calling;

const MAKE: &str = "@object";
/// The type of operations of a JSON patch.
pub(in super::super) const JSON_PATCH: &str = "JSONPatch";
/// The type of apply configurations; those of their parts begin with it.
pub(in super::super) const OBJECT: &str = "Object";

/// Whether expressions may make values of a type of this name.
pub(in super::super) fn is_type(name: &str) -> bool {
    let below = name.strip_prefix(OBJECT);
    name == JSON_PATCH || below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
}

pub(in super::super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    let arguments = vec![CelString::cel_type().to_owned(), CelMap::cel_type().to_owned()];
    env.add_overload(MAKE, MAKE, arguments, |arguments| {
        let [name, fields] = arguments.as_slice() else {
            return Err(ExecutionError::invalid_argument_count(2, arguments.len()));
        };
        let name = name
            .downcast_ref::<CelString>()
            .map(CelString::inner)
            .unwrap_or_default();
        let mut made = CelStruct::new(name.to_owned());
        let fields = fields.downcast_ref::<CelMap>();
        for (key, value) in fields.iter().flat_map(|fields| fields.inner()) {
            if let CelMapKey::String(key) = key {
                check_field(name, key.inner(), &**value)?;
                made.add_field_value(key.inner().to_owned(), CowVal::Owned(value.clone()));
            }
        }
        Ok(CowVal::owned(made))
    })?;
    cel::add_overload!(env, fn escape_key: (CelString) -> CelString, name = "jsonpatch.escapeKey")
}

fn check_field(type_: &str, field: &str, value: &dyn Val) -> Result<(), ExecutionError> {
    if type_ == JSON_PATCH && field != "value" && value.downcast_ref::<CelString>().is_none() {
        let got = value.get_type().name();
        let why = format!("unexpected type {got} for JSONPatchType '{field}' field");
        return Err(ExecutionError::function_error(JSON_PATCH, why));
    }
    Ok(())
}

fn escape_key(key: &CelString<'_>) -> CelString<'static> {
    CelString::from(key.inner().replace('~', "~0").replace('/', "~1"))
}

/// Makes `T{f: x}` a call of the function that makes such values: types of these names cannot be declared one by one.
pub(in super::super) fn construct(expression: &mut IdedExpr) {
    let Expr::Struct(made) = std::mem::take(&mut expression.expr) else {
        return;
    };
    let id = expression.id;
    let text = |text: String| IdedExpr {
        id,
        expr: Expr::Literal(LiteralValue::String(CelString::from(text))),
    };
    let entries = made.entries.into_iter().map(|entry| match entry.expr {
        EntryExpr::StructField(field) => IdedEntryExpr {
            id: entry.id,
            expr: EntryExpr::MapEntry(MapEntryExpr {
                key: text(field.field),
                value: field.value,
                optional: field.optional,
            }),
        },
        EntryExpr::MapEntry(_) => entry,
    });
    let entries = entries.collect();
    let fields = IdedExpr {
        id,
        expr: Expr::Map(MapExpr { entries }),
    };
    *expression = calling(id, MAKE, vec![text(made.type_name), fields]);
}

/// An apply configuration.
///
/// # Errors
///
/// When it is none, or a part of it has not the type of its place.
pub(super) fn configuration(value: &dyn Val) -> Result<Value, String> {
    let made = value
        .downcast_ref::<CelStruct>()
        .filter(|made| made.name() == OBJECT);
    if made.is_none() {
        let type_ = value.get_type().name();
        return Err(format!(
            "unsupported return type from ApplyConfiguration expression: {type_}"
        ));
    }
    check_names(value)?;
    json(value).map_err(|why| format!("invalid return type: {why}"))
}

/// The operations of a JSON patch, as a list of objects.
///
/// # Errors
///
/// When it is none, or what an operation is to write cannot be written.
pub(super) fn operations(value: &dyn Val) -> Result<Value, String> {
    const NO_LIST: &str = "type mismatch: JSONPatchType.expression should evaluate to array";
    let list = value.downcast_ref::<CelList>().ok_or(NO_LIST)?;
    let mut operations = Vec::new();
    for item in list.inner() {
        let operation = item
            .downcast_ref::<CelStruct>()
            .filter(|made| made.name() == JSON_PATCH);
        let Some(operation) = operation else {
            let type_ = item.get_type().name();
            return Err(format!("{NO_LIST} of JSONPatch, got element of {type_}"));
        };
        let mut made = Map::new();
        for (field, value) in operation.field_values() {
            if field == "value" {
                check_names(&*value)?;
            }
            let value = json(&*value).map_err(|why| {
                format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
            })?;
            if field != "from" || value != "" {
                made.insert(field, value);
            }
        }
        for field in ["op", "path"] {
            made.entry(field).or_insert_with(|| "".into());
        }
        operations.push(made.into());
    }
    Ok(Value::Array(operations))
}

/// Whether the types of all objects say where they are.
fn check_names(value: &dyn Val) -> Result<(), String> {
    let mut wrong = Vec::new();
    if let Some(made) = value.downcast_ref::<CelStruct>() {
        names(value, made.name(), &mut wrong);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("type mismatch: {}", wrong.join("\n")))
}

fn names(value: &dyn Val, place: &str, wrong: &mut Vec<String>) {
    if let Some(made) = value.downcast_ref::<CelStruct>() {
        if made.name() != place {
            wrong.push(format!(
                "unexpected type name {:?}, expected {place:?}, which matches field name path from root Object type",
                made.name()
            ));
        }
        for (field, value) in made.field_values() {
            names(&*value, &format!("{place}.{field}"), wrong);
        }
    } else if let Some(list) = value.downcast_ref::<CelList>() {
        list.inner().iter().for_each(|item| names(&**item, place, wrong));
    } else if let Some(map) = value.downcast_ref::<CelMap>() {
        map.inner()
            .values()
            .for_each(|value| names(&**value, place, wrong));
    }
}

/// A value as JSON.
///
/// # Errors
///
/// When there is no such JSON.
pub(super) fn json(value: &dyn Val) -> Result<Value, String> {
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    if let Some(flag) = value.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*flag.inner()));
    }
    if let Some(number) = value.downcast_ref::<CelInt>() {
        return Ok((*number.inner()).into());
    }
    if let Some(number) = value.downcast_ref::<CelUInt>() {
        return Ok((*number.inner()).into());
    }
    if let Some(number) = value.downcast_ref::<CelDouble>() {
        let number = Number::from_f64(*number.inner());
        return number
            .map(Value::Number)
            .ok_or_else(|| "not a finite number".to_owned());
    }
    if let Some(text) = value.downcast_ref::<CelString>() {
        return Ok(text.inner().into());
    }
    if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        return Ok(STANDARD.encode(bytes.inner()).into());
    }
    if let Some(list) = value.downcast_ref::<CelList>() {
        return list.inner().iter().map(|item| json(&**item)).collect();
    }
    if let Some(made) = value.downcast_ref::<CelStruct>() {
        let fields = made.field_values();
        let fields = fields
            .into_iter()
            .map(|(field, value)| Ok((field, json(&*value)?)));
        return fields.collect::<Result<Map<_, _>, String>>().map(Value::Object);
    }
    if let Some(map) = value.downcast_ref::<CelMap>() {
        let entries = map.inner().iter().map(|(key, value)| match key {
            CelMapKey::String(key) => Ok((key.inner().to_owned(), json(&**value)?)),
            other => Err(format!("map key {other:?} is not a string")),
        });
        return entries.collect::<Result<Map<_, _>, String>>().map(Value::Object);
    }
    // Times and durations, which JSON writes as CEL does.
    let type_ = value.get_type().name();
    let arguments = [CowVal::Owned(value.clone_as_boxed())];
    let convert = type_
        .starts_with("google.protobuf.")
        .then(|| library::env().find_overload("string", &arguments))
        .flatten();
    let text = convert.and_then(|convert| convert(arguments.into()).ok());
    match text.as_ref().and_then(|text| text.downcast_ref::<CelString>()) {
        Some(text) => Ok(text.inner().into()),
        None => Err(format!("a value of type {type_} cannot be JSON")),
    }
}
