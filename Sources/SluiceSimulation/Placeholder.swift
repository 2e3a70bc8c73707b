enum SluiceSimulationPlaceholder {}
