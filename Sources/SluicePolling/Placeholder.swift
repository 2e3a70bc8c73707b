enum SluicePollingPlaceholder {}
