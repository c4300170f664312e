package report

import "slices"

// ChangedCall is a pair of which something else is true after a change.
type ChangedCall struct{ From, To, Before, After string }

// Since notes which of the pairs were otherwise before a change.
func (c *Calls) Since(before *Calls) {
	was, now := before.says(), c.says()
	for _, list := range [][]fromTo{before.pairs(), c.pairs()} {
		for _, p := range list {
			x := ChangedCall{p.from, p.to, orNothing(was[p]), orNothing(now[p])}
			if x.Before != x.After && !slices.Contains(c.Changed, x) {
				c.Changed = append(c.Changed, x)
			}
		}
	}
}

type fromTo struct{ from, to string }

// pairs are those that are shown, in order.
func (c *Calls) pairs() []fromTo {
	var out []fromTo
	for i := range c.Clients {
		for _, call := range c.Clients[i].To {
			out = append(out, fromTo{c.Clients[i].title(), call.Service})
		}
	}
	return out
}

func (c *Calls) says() map[fromTo]string {
	out := map[fromTo]string{}
	for i := range c.Clients {
		for _, call := range c.Clients[i].To {
			out[fromTo{c.Clients[i].title(), call.Service}] = call.Text
		}
	}
	return out
}

func (c *Client) title() string {
	if c.Gateway {
		return "gateway/" + c.Name
	}
	return c.Name
}

func orNothing(text string) string {
	if text == "" {
		return "not there"
	}
	return text
}
