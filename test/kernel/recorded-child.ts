/** In the place of the process that records: it has recorded one sequence. */
process.once('message', () => process.send?.({ kind: 'recorded', index: 0, text: '{}\n' }));
