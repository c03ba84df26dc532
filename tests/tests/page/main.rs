//! The live page in a real browser: what its views show, that it follows what happens, and that it can be used.
//!
//! Its answers without a browser are tested where they are made. `TRIMTAB_PAGE_PICTURES=FOLDER` also takes pictures of all
//! that is looked at here.

mod site;
mod use_of_it;
mod views;
mod world;
