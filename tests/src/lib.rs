//! What the test areas share.
