//! Tests of the embedded store on its file: reopening, crashes, damage, a full disk.
