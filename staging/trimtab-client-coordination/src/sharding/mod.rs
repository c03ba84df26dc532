//! Sharding: all replicas work, each on its share of the keys.
//!
//! The members of a group share keys by their hashes. Each has a Lease (`coordination.k8s.io/v1`) that says that it lives and
//! where it may work; who joins, leaves or dies has the others share anew, and what need not change hands does not.
//!
//! ```no_run
//! # async fn work(_: &str) {}
//! # async fn example(client: kube::Client, stop: tokio_util::sync::CancellationToken) -> Result<(), Box<dyn std::error::Error>> {
//! use trimtab_client_coordination::sharding::{Member, MemberConfig, hash_of_name};
//!
//! let member = Member::new(client, MemberConfig::new("website-controller"))?;
//! let shards = member.shards();
//! let membership = tokio::spawn(member.run(stop));
//!
//! let mut gains = shards.gains();
//! tokio::spawn(async move {
//!     while let Some(gained) = gains.next().await {
//!         // queue all keys whose hashes are in `gained`: nobody may have looked at them meanwhile
//!     }
//! });
//!
//! let key = "default/hello";
//! if let Some(held) = shards.hold(hash_of_name(key)) {
//!     held.run(work(key)).await; // dropped if it has not ended when others could begin
//! } // else it is somebody else's, who is told so when they gain it
//! # membership.await?;
//! # Ok(()) }
//! ```
//!
//! # What always holds
//!
//! - **Exclusive**: no two members work on keys of one partition at once, whatever is delayed, lost or paused, and whatever
//!   the clocks of others show. Work is what goes on in [`Held::run`]; what leader election says of [work](super::leader) and
//!   of rates of clocks goes for it too.
//! - **Covered**: when members neither come nor go, and their requests are answered, each partition is soon in somebody's
//!   hands: after a join or a leave within three retry periods, the time that work in hand takes to end and that of ten
//!   requests; after a death within the lease duration more.
//! - **Minimal**: with a member, only the partitions change hands that it is given; without it, only those that it had.
//!
//! Do not delete the Lease of a member that runs. Those who know it wait for as long as it would last, and it joins anew; but
//! a member that has just started cannot know that it was there. There is no fencing token: it would have to be one of each
//! partition.
//!
//! # Which hash
//!
//! All who work on a key must take the same hash of it. That of its `namespace/name`, by [`hash_of_name`], keeps a key with one
//! member even when its object is deleted and made again. That of its object's UID, by [`hash_of`], is one that API servers can
//! shard by (KEP-5866), so that a member's informers need not read what is not its own: see [`Partitions::selector`]. Then
//!
//! - an object that is made again under its old name may go to another member, while the old one's last work is in hand;
//! - what a member gains it has to list first: start an informer by the selector of what is owned and claimed, wait for it to
//!   sync, and queue the keys of [`Gains`] from it. It pays where members seldom change and the objects are many;
//! - an informer by a selector sees no owner of other shards, and no child of its own objects whose UID is of another one.
//!
//! # What it costs
//!
//! Each member writes its Lease and lists those of the group once in each retry period, and lists them four times as often while
//! it waits for others. So a group of *n* costs *n* writes and *n* lists of *n* Leases in that time. Members must be allowed to
//! get, list, create, update and delete Leases.

mod assign;
mod config;
mod group;
mod member;
mod partitions;
mod shards;
mod state;

pub use crate::lease::{InvalidTiming, Timing};
pub use config::{InvalidMember, MemberConfig};
pub use group::GROUP_LABEL;
pub use member::Member;
pub use partitions::{Field, PARTITIONS, Partitions, hash_of, hash_of_name};
pub use shards::{Gains, Held, Shards, Status, Unhealthy};

#[cfg(test)]
mod tests;
