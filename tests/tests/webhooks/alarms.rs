//! A kind that has grown: three versions of it are served, and a program converts between them.
//!
//! `v1` is the hub: it can express everything. What a spoke cannot is kept in an annotation while an object has the spoke's
//! form, so that nothing is lost by whoever uses an old version. The program's `main` is as that of `policy`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::crd::{MergeError, merge_crds};
use kube::{Client, CustomResourceExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use trimtab::apimachinery::{FieldError, FieldPath};
use trimtab::controller::webhook::{
    Conversion, ConversionError, Hook, Refusal, Request, Spoke, Validator, WebhookServer, Webhooks,
    keep_in_annotation, restore_from_annotation,
};
use trimtab::controller::{Manager, Result};

/// Where a spoke keeps what it cannot express.
const KEPT: &str = "alarms.example.com/kept";

/// The hub: on which days, and with which sound.
pub mod v1 {
    use kube::{CustomResource, KubeSchema};
    use serde::{Deserialize, Serialize};

    /// When to ring.
    #[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
    #[kube(
        group = "example.com",
        version = "v1",
        kind = "Alarm",
        namespaced,
        derive = "PartialEq"
    )]
    pub struct AlarmSpec {
        /// From 0 to 23.
        pub hour: i32,
        /// From 0 to 59.
        pub minute: i32,
        /// On these days; every day, if there are none.
        #[serde(default)]
        pub days: Vec<String>,
        /// What is heard; a bell, if it does not say.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sound: Option<String>,
    }
}

/// The version before it, which rings every day.
pub mod v1beta1 {
    use kube::{CustomResource, KubeSchema};
    use serde::{Deserialize, Serialize};

    /// When to ring.
    #[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
    #[kube(
        group = "example.com",
        version = "v1beta1",
        kind = "Alarm",
        namespaced,
        derive = "PartialEq"
    )]
    pub struct AlarmSpec {
        /// From 0 to 23.
        pub hour: i32,
        /// From 0 to 59.
        pub minute: i32,
        /// What is heard; a bell, if it does not say.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sound: Option<String>,
    }
}

/// The first one, which took any text for a time.
pub mod v1alpha1 {
    use kube::{CustomResource, KubeSchema};
    use serde::{Deserialize, Serialize};

    /// When to ring.
    #[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
    #[kube(
        group = "example.com",
        version = "v1alpha1",
        kind = "Alarm",
        namespaced,
        derive = "PartialEq"
    )]
    pub struct AlarmSpec {
        /// As `7:30`.
        pub time: String,
    }
}

/// What `v1beta1` cannot express is a list of days; of `v1alpha1` it is the sound, too.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Kept {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    days: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sound: Option<String>,
}

impl Spoke for v1beta1::Alarm {
    type Hub = v1::Alarm;

    fn into_hub(mut self) -> Result<v1::Alarm, ConversionError> {
        let Kept { days, .. } = restore_from_annotation(&mut self.metadata, KEPT).unwrap_or_default();
        let v1beta1::AlarmSpec { hour, minute, sound } = self.spec;
        let spec = v1::AlarmSpec {
            hour,
            minute,
            days,
            sound,
        };
        Ok(v1::Alarm {
            metadata: self.metadata,
            spec,
        })
    }

    fn from_hub(mut hub: v1::Alarm) -> Result<Self, ConversionError> {
        let v1::AlarmSpec {
            hour,
            minute,
            days,
            sound,
        } = hub.spec;
        if !days.is_empty() {
            keep_in_annotation(&mut hub.metadata, KEPT, &Kept { days, sound: None })?;
        }
        let spec = v1beta1::AlarmSpec { hour, minute, sound };
        Ok(Self {
            metadata: hub.metadata,
            spec,
        })
    }
}

impl Spoke for v1alpha1::Alarm {
    type Hub = v1::Alarm;

    fn into_hub(mut self) -> Result<v1::Alarm, ConversionError> {
        let Kept { days, sound } = restore_from_annotation(&mut self.metadata, KEPT).unwrap_or_default();
        let time = &*self.spec.time;
        let (hour, minute) = hour_and_minute(time)
            .ok_or_else(|| format!("spec.time is {time:?}, and should be an hour and a minute, as 7:30"))?;
        let spec = v1::AlarmSpec {
            hour,
            minute,
            days,
            sound,
        };
        Ok(v1::Alarm {
            metadata: self.metadata,
            spec,
        })
    }

    fn from_hub(mut hub: v1::Alarm) -> Result<Self, ConversionError> {
        let v1::AlarmSpec {
            hour,
            minute,
            days,
            sound,
        } = hub.spec;
        let kept = Kept { days, sound };
        if kept != Kept::default() {
            keep_in_annotation(&mut hub.metadata, KEPT, &kept)?;
        }
        let time = format!("{hour}:{minute:02}");
        let spec = v1alpha1::AlarmSpec { time };
        Ok(Self {
            metadata: hub.metadata,
            spec,
        })
    }
}

fn hour_and_minute(time: &str) -> Option<(i32, i32)> {
    let (hour, minute) = time.split_once(':')?;
    Some((hour.parse().ok()?, minute.parse().ok()?))
}

/// Says which alarms may be. It is asked in terms of the hub, whichever version a client writes.
struct Alarms;

impl Validator<v1::Alarm> for Alarms {
    async fn create(&self, alarm: &v1::Alarm, _: &Request) -> Result<(), Refusal> {
        let (spec, mut faults) = (FieldPath::new("spec"), Vec::new());
        for (part, value, most) in [("hour", alarm.spec.hour, 23), ("minute", alarm.spec.minute, 59)] {
            if !(0..=most).contains(&value) {
                let why = format!("must be from 0 to {most}");
                faults.push(FieldError::invalid(&spec.child(part), value, why));
            }
        }
        Refusal::unless_none(faults)
    }
}

/// All that the program is asked about.
pub fn webhooks() -> Webhooks {
    let conversion = Conversion::<v1::Alarm>::hub()
        .spoke::<v1beta1::Alarm>()
        .spoke::<v1alpha1::Alarm>();
    Webhooks::new("alarms")
        .hook(Hook::validating::<v1::Alarm>(Alarms))
        .conversion(conversion)
}

/// The definition with all its versions, objects being stored as `stored`. How they are converted is added by the manifests
/// of [`webhooks`].
pub fn definition(stored: &str) -> Result<CustomResourceDefinition, MergeError> {
    let versions = vec![v1alpha1::Alarm::crd(), v1beta1::Alarm::crd(), v1::Alarm::crd()];
    merge_crds(versions, stored)
}

/// Runs until `stop`.
pub async fn run(client: Client, server: WebhookServer, stop: CancellationToken) -> Result<()> {
    let manager = Manager::new(client).name("alarms");
    manager.part(server)?;
    manager.run(stop).await
}

#[cfg(test)]
mod tests;
