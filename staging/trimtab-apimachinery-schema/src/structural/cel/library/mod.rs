//! The functions that rules may call: those of CEL's standard and string libraries, and Kubernetes' own.

pub(in crate::structural) mod authorizers;
mod formats;
mod lists;
mod net;
mod quantities;
mod texts;
mod versions;

use std::sync::{Arc, LazyLock};

use cel::common::value::{FromVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::meter;
use super::requests::patches;

/// The environment of all rules. Were a declaration refused, rules would have the functions declared before it.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(true);
    let _ = declare(&mut env);
    Arc::new(env)
});

/// The environment of all conditions on requests: what rules have, and authorizers.
static WITH_AUTHORIZERS: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(true);
    let _ = declare_for_requests(&mut env);
    Arc::new(env)
});

/// The environment of all mutations: what conditions have, and what patches are written with.
static WITH_PATCHES: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(true);
    let _ = declare_for_requests(&mut env).and_then(|()| patches::declare(&mut env));
    Arc::new(env)
});

fn declare_for_requests(env: &mut Env) -> Result<(), DeclarationError> {
    declare(env)?;
    authorizers::declare(env)
}

/// The environment that rules are compiled and evaluated in.
pub(super) fn env() -> &'static Arc<Env> {
    &ENV
}

/// The environment that conditions on requests are compiled and evaluated in.
pub(super) fn with_authorizers() -> &'static Arc<Env> {
    &WITH_AUTHORIZERS
}

/// The environment that mutations are compiled and evaluated in.
pub(super) fn with_patches() -> &'static Arc<Env> {
    &WITH_PATCHES
}

fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_extension(cel::extensions::strings)?;
    env.add_extension(cel::extensions::lists)?;
    lists::declare(env)?;
    texts::declare(env)?;
    quantities::declare(env)?;
    net::declare(env)?;
    formats::declare(env)?;
    versions::declare(env)?;
    meter::declare(env)
}

/// A value of the Rust type that the overload was declared for.
fn argument<'b, 'v, T: FromVal<'b, 'v> + Val>(value: &'b (dyn Val + 'v)) -> Result<&'b T, ExecutionError> {
    value
        .downcast_ref::<T>()
        .ok_or_else(|| ExecutionError::UnexpectedType {
            got: value.get_type().name().to_owned(),
            want: T::cel_type().name().to_owned(),
        })
}

/// Makes a Rust type a CEL type of that name.
macro_rules! opaque {
    ($type:ident, $name:literal) => {
        static TYPE: cel::common::types::Type = cel::common::types::Type::new_unspecified_type($name);

        impl cel::common::value::Val for $type {
            fn get_type(&self) -> &cel::common::types::Type {
                &TYPE
            }

            fn cel_type() -> &'static cel::common::types::Type {
                &TYPE
            }

            fn equals(&self, other: &dyn cel::common::value::Val) -> bool {
                other.downcast_ref::<Self>() == Some(self)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn cel::common::value::Val + 'v> {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn std::any::Any> {
                Some(self)
            }
        }

        impl cel::common::value::StaticVal for $type {}
    };
}
pub(super) use opaque;

/// Expressions that hold, by what Kubernetes documents of functions.
#[cfg(test)]
pub(super) const DOCUMENTED: &[&str] = &[
    "[1, 2, 3].isSorted()",
    "!['b', 'a'].isSorted()",
    "[1, 3].sum() == 4",
    "[1.5, 3.0].sum() == 4.5",
    "[].sum() == 0",
    "[duration('1m'), duration('1s')].sum() == duration('1m1s')",
    "[1, 3].max() == 3 && ['b', 'a'].min() == 'a'",
    "[1, 2, 2, 3].indexOf(2) == 1 && [1, 2, 2, 3].lastIndexOf(2) == 2 && ['a'].indexOf('b') == -1",
    "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
    "'123 abc 456'.findAll('[0-9]+') == ['123', '456']",
    "'123 abc 456'.findAll('[0-9]+', 1) == ['123']",
    "'hello'.matches('^h.*o$')",
    "'Hello'.lowerAscii() == 'hello' && 'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b'",
    "'abc'.substring(1, 2) == 'b' && ' a '.trim() == 'a' && 'aba'.replace('a', 'c') == 'cbc'",
    "isURL('https://user:pass@example.com:80/p?q=1') && !isURL('../relative')",
    "url('https://example.com:80/path/a?x=1&x=2').getHost() == 'example.com:80'",
    "url('https://example.com:80/').getHostname() == 'example.com' && url('https://a:80/').getPort() == '80'",
    "url('https://[::1]:80/').getHostname() == '::1' && url('https://h/a b').getEscapedPath() == '/a%20b'",
    "url('https://h/?k=a&k=b&e').getQuery() == {'k': ['a', 'b'], 'e': ['']}",
    "url('/path').getScheme() == '' && url('https://h').getScheme() == 'https'",
    "isQuantity('1.3Gi') && !isQuantity('1.3x')",
    "quantity('1500m').isGreaterThan(quantity('1')) && quantity('1Ki').compareTo(quantity('1024')) == 0",
    "quantity('50k').asInteger() == 50000 && quantity('1.5').asApproximateFloat() == 1.5",
    "!quantity('1500m').isInteger() && quantity('-1').sign() == -1",
    "quantity('1k').add(quantity('1')).compareTo(quantity('1001')) == 0",
    "quantity('1k').sub(1) == quantity('999') && quantity('1').add(2) == quantity('3')",
    "isIP('10.0.0.1') && isIP('::1') && !isIP('10.0.0') && !isIP('010.0.0.1')",
    "ip('10.0.0.1').family() == 4 && ip('::1').family() == 6 && ip('::1').isLoopback()",
    "ip.isCanonical('::1') && !ip.isCanonical('0::1') && string(ip('0::1')) == '::1'",
    "ip('169.254.1.1').isLinkLocalUnicast() && ip('0.0.0.0').isUnspecified() && ip('8.8.8.8').isGlobalUnicast()",
    "isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33')",
    "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsIP(ip('11.0.0.1'))",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
    "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.0.0.0/8').prefixLength() == 8",
    "cidr('10.0.0.0/8').ip() == ip('10.0.0.0') && string(cidr('10.0.0.0/8')) == '10.0.0.0/8'",
    "sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && sets.intersects([1], [1, 2])",
    "[1, 2, 3].slice(0, 2) == [1, 2] && [2, 1, 2].distinct() == [2, 1] && [2, 1].sort() == [1, 2]",
    "[{'a': 2}, {'a': 1}].sortBy(e, e.a)[0].a == 1 && [[1], [2]].flatten().reverse() == [2, 1]",
    "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && !dyn([]).first().hasValue()",
    "optional.none().orValue(1) == 1",
    "!format.dns1123Label().validate('my-label').hasValue() && format.dns1123Label().validate('My').hasValue()",
    "format.dns1035Label().validate('1a').value()[0].startsWith('a DNS-1035 label must consist of')",
    "!format.dns1123LabelPrefix().validate('my-').hasValue() && format.dns1123Label().validate('my-').hasValue()",
    "!format.qualifiedName().validate('a.b/c').hasValue() && !format.labelValue().validate('x_y').hasValue()",
    "format.uuid().validate('x').value() == ['does not match the UUID format']",
    "!format.date().validate('2021-01-01').hasValue() && format.datetime().validate('2021-01-01').hasValue()",
    "!format.uri().validate('https://a/b').hasValue() && !format.byte().validate('aGVsbG8=').hasValue()",
    "format.named('date').value() == format.date() && !format.named('nothing').hasValue()",
    "isSemver('1.0.0') && isSemver('0.1.0-alpha.1+b') && !isSemver('v1.0') && !isSemver('01.0.0') && !isSemver('1.0')",
    "isSemver('v1.0', true) && semver('01.01.01', true) == semver('1.1.1') && semver('1.0', true).patch() == 0",
    "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
    "semver('1.2.3').compareTo(semver('1.2.3')) == 0 && semver('1.2.3').isLessThan(semver('2.0.0'))",
    "semver('1.0.0').isGreaterThan(semver('1.0.0-rc.1')) && semver('1.0.0-rc.10').isGreaterThan(semver('1.0.0-rc.9'))",
    "semver('1.0.0-1').isLessThan(semver('1.0.0-a')) && semver('1.0.0+a') == semver('1.0.0+b')",
];

#[cfg(test)]
mod tests {
    use cel::{Context, Value};

    use super::*;

    #[test]
    fn all_functions_are_declared() {
        let mut env = Env::stdlib();
        assert_eq!(declare_for_requests(&mut env), Ok(()));
        assert_eq!(patches::declare(&mut env), Ok(()));
    }

    #[test]
    fn functions_do_what_kubernetes_documents() {
        let mut wrong = Vec::new();
        for rule in DOCUMENTED {
            let program = env().compile(rule).unwrap_or_else(|e| panic!("{rule}: {e}"));
            let context = Context::with_env(Arc::clone(env()));
            let result = program.execute(&context);
            if result != Ok(Value::Bool(true)) {
                wrong.push((*rule, result));
            }
        }
        assert_eq!(wrong, []);
    }
}
