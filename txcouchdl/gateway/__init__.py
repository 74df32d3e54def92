"""Our answers: who may read, what is sent, and how it is delivered."""
