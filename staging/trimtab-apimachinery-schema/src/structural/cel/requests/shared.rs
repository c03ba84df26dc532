//! Values that several expressions look at: made once, borrowed by each.

use std::any::Any;
use std::sync::{Arc, Weak};

use cel::ExecutionError;
use cel::common::traits::{
    Adder, Comparer, Container, Divider, Indexer, Iterable, Modder, Multiplier, Negator, Sizer, Subtractor,
    Zeroer,
};
use cel::common::types::{CelString, Type};
use cel::common::value::{Builtin, BuiltinRef, CowVal, Val};

use super::activation::Scope;

/// A value that is shared: it is what the value within is, and cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Shared(pub(super) Arc<dyn Val>);

/// Accessors that answer with those of the value within.
macro_rules! delegate {
    ($($accessor:ident -> $capability:ident),* $(,)?) => {
        $(
            fn $accessor<'b, 'v>(&'b self) -> Option<&'b (dyn $capability + 'v)>
            where
                Self: 'v,
            {
                self.0.$accessor()
            }
        )*
    };
}

impl Val for Shared {
    fn get_type(&self) -> &Type {
        self.0.get_type()
    }

    fn cel_type() -> &'static Type {
        static ANY: Type = cel::common::types::DYN_TYPE;
        &ANY
    }

    delegate! {
        as_adder -> Adder,
        as_divider -> Divider,
        as_indexer -> Indexer,
        as_iterable -> Iterable,
        as_modder -> Modder,
        as_multiplier -> Multiplier,
        as_negator -> Negator,
        as_subtractor -> Subtractor,
    }

    fn as_comparer(&self) -> Option<&dyn Comparer> {
        self.0.as_comparer()
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.0.as_container()
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.0.as_sizer()
    }

    fn as_zeroer(&self) -> Option<&dyn Zeroer> {
        self.0.as_zeroer()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        self.0.equals(other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn into_indexer<'v>(self: Box<Self>) -> Option<Box<dyn Indexer + 'v>>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn into_builtin<'v>(self: Box<Self>) -> Option<Builtin<'v>>
    where
        Self: 'v,
    {
        self.0.clone_as_boxed().into_builtin()
    }

    fn as_any(&self) -> Option<&dyn Any> {
        self.0.as_any()
    }

    fn as_builtin<'b, 'v>(&'b self) -> BuiltinRef<'b, 'v>
    where
        Self: 'v,
    {
        self.0.as_builtin()
    }
}

/// What a value says that is indexed by name or place, whether it is borrowed or not.
impl Indexer for Shared {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match self.0.as_indexer() {
            Some(indexer) => indexer.get(index),
            None => Err(ExecutionError::no_such_overload(
                "_[_]",
                vec![self.get_type().name().to_owned()],
            )),
        }
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        match self.0.as_indexer() {
            Some(indexer) => indexer.get(index).map(CowVal::into_owned),
            None => Err(ExecutionError::no_such_overload(
                "_[_]",
                vec![self.get_type().name().to_owned()],
            )),
        }
    }
}

/// The variables of a policy: each is evaluated when it is first looked at. It has those before `end`, so that none can
/// wait for itself.
#[derive(Clone, Debug)]
pub(super) struct Variables {
    pub(super) scope: Weak<Scope>,
    pub(super) end: usize,
}

static VARIABLES: Type = Type::new_unspecified_type("kubernetes.variables");

impl Val for Variables {
    fn get_type(&self) -> &Type {
        &VARIABLES
    }

    fn cel_type() -> &'static Type {
        &VARIABLES
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }
}

impl Indexer for Variables {
    fn get<'b, 'v>(&'b self, field: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = field
            .downcast_ref::<CelString>()
            .map(CelString::inner)
            .unwrap_or_default();
        // A variable may be all variables, so that they must not keep each other.
        let scope = self
            .scope
            .upgrade()
            .ok_or_else(|| ExecutionError::no_such_key(name))?;
        let value = scope.variable(name, self.end)?.clone();
        Ok(CowVal::owned(value))
    }

    fn steal<'v>(self: Box<Self>, field: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(field).map(CowVal::into_owned)
    }
}
