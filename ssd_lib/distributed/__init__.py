"""Training in several processes, on one machine or on several: started by our own agent, by torchrun or by srun."""
