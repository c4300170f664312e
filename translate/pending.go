package translate

func (b *build) outboundClusters()  {}
func (b *build) inboundClusters()   {}
func (b *build) outboundListeners() {}
func (b *build) inboundListeners()  {}
func (b *build) gatewayListeners()  {}
func (b *build) outboundRoutes()    {}
func (b *build) gatewayRoutes()     {}
