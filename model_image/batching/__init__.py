"""Queues and the forming of batches: knows token ids and costs, no HTTP and no torch."""
