enum SluiceTestingPlaceholder {}
