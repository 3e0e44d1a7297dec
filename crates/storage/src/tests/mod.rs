//! The log, its directory and its recovery over a disk in memory.
mod crash;
mod damage;
mod files;
mod flush;
mod full;
mod random;
mod rig;
mod state;
