// Package mail is what is said by email, to whom, for which event. It reads the
// events that account records in the transaction of an act, so that no act is
// without its message and no message without its act. Nothing that this release
// does is told by email yet; the first that is will put its words here.
package mail
