"""Call a model behind an endpoint, in a cloud or on this machine, that speaks the protocol of OpenAI."""
