/** In the place of the process that records: it begins, and never ends by itself. */
process.on('message', () => {
  process.send?.({ kind: 'begins', index: 0 });
  // The channel keeps it alive, as long as somebody listens.
});
