//! The log, its directory and its recovery over a disk in memory.
mod compact;
mod compact_install;
mod compact_random;
mod crash;
mod damage;
mod entries;
mod files;
mod flush;
mod full;
mod give_up;
mod give_up_faults;
mod install;
mod random;
mod rig;
mod state;
