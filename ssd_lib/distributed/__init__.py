"""Several training processes, on one machine or on several, started and watched by torchrun's elastic agent."""
