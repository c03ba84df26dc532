//! API servers whose store is in etcd: the real binaries, real etcd, the real kubectl; several servers on one; and etcd
//! itself under `trimtab etcd`.

#[allow(dead_code)] // not every test needs all of it
#[path = "../../../staging/trimtab-apiserver-storage/tests/contract/etcd/certificates.rs"]
mod certificates;
#[allow(dead_code)] // nor does everything to it
#[path = "../../../staging/trimtab-apiserver-storage/tests/contract/etcd/process.rs"]
mod process;

mod halfway;
mod kubectl;
mod layout;
mod migrated;
mod operated;
mod restored;
mod servers;
mod switched;
