// Package wire reads protobuf messages field by field where their generated
// types would cost more than they are worth: in the agent of every pod, and in
// load tests. It keeps nothing and allocates nothing.
package wire
