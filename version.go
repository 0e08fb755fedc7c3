package dspex

// Version is the version of this module, without the "v" of its tag. It ends in "-dev"
// between releases.
const Version = "0.1.0-dev"
