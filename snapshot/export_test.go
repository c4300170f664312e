package snapshot

// Judged returns when the rejections that have come so far are dealt with.
func (c *Cache) Judged() {
	done := make(chan struct{})
	c.later(func() { close(done) })
	<-done
}
