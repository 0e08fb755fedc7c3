// Package process is the only place that knows the operating system: it executes and forks
// Python processes, ties their lives to this one by a lifeline, captures what they print,
// and tells how they ended.
//
// # Lifeline
//
// Every process is given the read end of a pipe whose write end only this process holds and
// never writes. The child leads a process group of its own and has armed the pipe, so that
// the kernel sends SIGKILL to the whole group when the write end closes: by Kill, or because
// this process died in whatever way. Where the kernel cannot do that, a thread of the child
// watches for the end of file instead; see [ProveLifeline].
//
// # Identity
//
// A process is only ever signalled through a handle that keeps its identity: a pidfd, or
// the pid of a child that has not been reaped. No process is looked up by name or by a pid
// that could have been reused.
package process
