package kubetest

// Run starts a Server for a program that is no test, with the binaries in the
// folder bin. The caller must Close it; a signal or the program's end stops
// it as well.
func Run(bin string) (*Server, error) { return start(bin) }

// Close stops the Server and removes its files.
func (s *Server) Close() { s.end() }
