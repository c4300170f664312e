package snapshot

// Judged returns when the rejections that have come so far are dealt with.
func (c *Cache) Judged() {
	done := make(chan struct{})
	c.later(func() { close(done) })
	<-done
}

// Strangers is how many streams wait to be let in.
func (s *Server) Strangers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.strangers.order.Len()
}
