enum SluiceDeliveryPlaceholder {}
